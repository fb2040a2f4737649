"""Keys that sign tokens, each for some algorithms and no other (BAD-INPUT D7)."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from attrs import field, frozen
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from mqttproxy.config.admitting import TokenKeySettings
from mqttproxy.config.errors import ConfigError, Fault
from mqttproxy.config.load import read_secret

SHORTEST_SECRET: Final = 32  # bytes
SMALLEST_RSA: Final = 2048  # bits
MOST_KEYS: Final = 100  # of one set
_IMPORTS: Final[dict[str, Callable[[Any], Key]]] = {
    "RSA": RSAKey.import_key,
    "EC": ECKey.import_key,
    "OKP": OKPKey.import_key,
}
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


@frozen
class TokenKey:
    """One key."""

    algorithms: frozenset[str]
    key: Key = field(repr=False)


def family(algorithm: str) -> str:
    """Return the kind of key that an algorithm takes, as `kty` names it."""
    return {"HS": "oct", "RS": "RSA", "PS": "RSA", "ES": "EC"}.get(algorithm[:2], "OKP")


def read_key(settings: TokenKeySettings) -> TokenKey:
    """Return the key of a file.

    Raises:
        ConfigError: it is not what its algorithms need.

    """
    file = str(settings.file)
    kind = family(settings.algorithms[0])
    try:
        data = read_secret(settings.file)
        if kind == "oct":
            key: Key = _secret(data)
        else:
            key = _IMPORTS[kind](data)
            _check(key, settings.algorithms)
    except OSError as error:
        raise ConfigError([Fault(file, "", f"a file that cannot be read ({error.strerror})", "a key")]) from error
    except (ValueError, TypeError, JoseError) as error:
        found = f"a key that cannot be used ({error})"
        raise ConfigError([Fault(file, "", found, f"one for {', '.join(settings.algorithms)}")]) from error
    return TokenKey(frozenset(settings.algorithms), key)


def _secret(data: bytes) -> OctKey:
    if b"-----BEGIN" in data or data.lstrip().startswith((b"ssh-", b"{")):
        raise ValueError("a public key is no shared secret")
    if len(data) < SHORTEST_SECRET:
        raise ValueError(f"fewer than {SHORTEST_SECRET} bytes")
    return OctKey.import_key(data)


def _check(key: Key, algorithms: Iterable[str]) -> None:
    """Refuse a key that is too weak, or of another curve than its algorithm. Raises ValueError."""
    if isinstance(key, RSAKey) and key.public_key.key_size < SMALLEST_RSA:
        raise ValueError(f"RSA of fewer than {SMALLEST_RSA} bits")
    if isinstance(key, ECKey) and any(_CURVES[one] != key.curve_name for one in algorithms):
        raise ValueError(f"the curve {key.curve_name}")
    if isinstance(key, OKPKey) and key.curve_name != "Ed25519":
        raise ValueError(f"the curve {key.curve_name}")


def read_set(document: Any, allowed: Iterable[str]) -> dict[str | None, TokenKey]:
    """Return the keys of a JSON Web Key Set, by `kid`. What is of no use here is left out, as the standard says.

    Raises:
        ValueError: it is no set.

    """
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("no JSON Web Key Set")  # noqa: TRY004 # of a document, not of an argument
    found: dict[str | None, TokenKey] = {}
    for entry in document["keys"][:MOST_KEYS]:
        made = _of_set(entry, allowed) if isinstance(entry, dict) else None
        if made is not None:
            kid = entry.get("kid")
            found.setdefault(kid if isinstance(kid, str) else None, made)
    return found


def _of_set(entry: Mapping[str, Any], allowed: Iterable[str]) -> TokenKey | None:
    kind = entry.get("kty")
    if entry.get("use", "sig") != "sig" or kind not in ("RSA", "EC", "OKP"):
        return None
    algorithms = {one for one in allowed if family(one) == kind and entry.get("alg", one) == one}
    public = {name: value for name, value in entry.items() if name in ("kty", "n", "e", "crv", "x", "y")}
    try:
        key = _IMPORTS[kind](public)
        if isinstance(key, ECKey):
            algorithms = {one for one in algorithms if _CURVES[one] == key.curve_name}
        _check(key, algorithms)
    except (ValueError, TypeError, KeyError, JoseError):
        return None
    return TokenKey(frozenset(algorithms), key) if algorithms else None


def quietly() -> "warnings.catch_warnings[None]":
    """Return a context in which the library does not warn of `EdDSA`, the name that everybody uses for Ed25519."""
    return warnings.catch_warnings(action="ignore", category=SecurityWarning)
