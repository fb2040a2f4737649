"""From `[access]` to the chains that let devices in. Blocking: it reads files, and hashes a password."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import trio
from attrs import frozen

from mqttproxy.access.by_password import ByPassword
from mqttproxy.access.chain import Chain, Chains
from mqttproxy.access.credentials import Authenticator
from mqttproxy.access.hashing import EXTRA
from mqttproxy.access.users import UserDatabase, UserFile, Users
from mqttproxy.apart import IN_THREAD, ToThread
from mqttproxy.config.access_checks import authenticators
from mqttproxy.config.admitting import CertificateSettings, HttpSettings, PasswordSettings, TokenSettings
from mqttproxy.config.errors import ConfigError, Fault
from mqttproxy.config.load import read_secret
from mqttproxy.config.model import AccessSettings, ProxyConfig
from mqttproxy.transport.stream import TransportError

Make = Callable[[Any, "Means"], Authenticator]


@frozen
class Means:
    """What authenticators work with."""

    access: AccessSettings
    data_dir: Path
    limiter: trio.CapacityLimiter  # of what takes a processor for long
    to_thread: ToThread
    wall: Callable[[], float]


def make_chains(
    config: ProxyConfig,
    file: str = "proxy.toml",
    *,
    to_thread: ToThread = IN_THREAD,
    wall: Callable[[], float] = time.time,
) -> Chains:
    """Return the chains that the settings ask for.

    Args:
        config: checked.
        file: where it stands, for faults.
        to_thread: where what takes long is done.
        wall: seconds since 1970.

    Raises:
        ConfigError: a file that they name cannot be used, or an extra is not installed.

    """
    access = config.access
    means = Means(access, config.proxy.data_dir, trio.CapacityLimiter(access.check_threads), to_thread, wall)
    made: dict[str, Authenticator] = {}
    faults: list[Fault] = []
    used = set(access.chain).union(*(entry.chain for entry in access.chains))
    for key, settings in authenticators(access):
        if settings.name not in used:
            continue
        try:
            made[settings.name] = _MAKERS[type(settings)](settings, means)
        except ConfigError as error:
            faults.extend(error.faults)
        except TransportError as error:
            faults.append(Fault(file, key, str(error)))
        except ImportError:
            faults.append(Fault(file, key, "an authenticator whose library is missing", _EXTRAS[type(settings)]))
    if faults:
        raise ConfigError(faults)
    return Chains(_chain(access.chain, made, allow_anonymous=None), dict(_of_listeners(access, made)))


def _of_listeners(access: AccessSettings, made: dict[str, Authenticator]) -> Iterator[tuple[str, Chain]]:
    for entry in access.chains:
        chain = _chain(entry.chain, made, allow_anonymous=entry.allow_anonymous)
        yield from ((listener, chain) for listener in entry.listeners)


def _chain(names: tuple[str, ...], made: dict[str, Authenticator], *, allow_anonymous: bool | None) -> Chain:
    return Chain(tuple(made[name] for name in names), allow_anonymous)


def _by_password(settings: PasswordSettings, means: Means) -> Authenticator:
    if settings.scram:
        import mqttproxy.access.scram  # noqa: F401, PLC0415 - an extra; whether it is there shows now
    return ByPassword(
        settings,
        users_of(settings),
        longest=means.access.password_bytes,
        remember=means.access.remember,
        data_dir=means.data_dir,
        limiter=means.limiter,
        to_thread=means.to_thread,
    )


def users_of(settings: PasswordSettings) -> Users:
    """Return where the users of an authenticator are. Raises ConfigError: their file is no good; and ImportError."""
    if settings.file is not None:
        return UserFile(settings.file)
    if settings.postgresql.url is not None:
        from mqttproxy.access.users_postgresql import UserTable  # noqa: PLC0415 - an extra

        return UserTable(settings.postgresql)
    assert settings.database is not None  # noqa: S101 # the checks of the settings ask for either
    return UserDatabase(settings.database)


def _by_certificate(settings: CertificateSettings, means: Means) -> Authenticator:
    from mqttproxy.access.by_certificate import ByCertificate  # noqa: PLC0415 - an extra

    return ByCertificate(settings, wall=means.wall)


def _by_token(settings: TokenSettings, means: Means) -> Authenticator:
    from mqttproxy.access.by_token import ByToken, FixedKeys, Keys  # noqa: PLC0415 - an extra
    from mqttproxy.access.keys import read_key  # noqa: PLC0415 - an extra

    keys: Keys = FixedKeys({one.id: read_key(one) for one in settings.keys})
    if settings.jwks is not None:
        from mqttproxy.access.asking import Asker  # noqa: PLC0415 - an extra
        from mqttproxy.access.jwks import FetchedKeys  # noqa: PLC0415 - an extra

        asker = Asker(settings.jwks, ca=settings.jwks_ca, timeout=settings.jwks_timeout)
        keys = FetchedKeys(settings, asker.get, asker.aclose)
    return ByToken(settings, keys, longest=means.access.token_bytes, wall=means.wall)


def _by_http(settings: HttpSettings, means: Means) -> Authenticator:
    from mqttproxy.access.asking import Asker  # noqa: PLC0415 - an extra
    from mqttproxy.access.by_http import ByHttp  # noqa: PLC0415 - needs it

    token = None
    if settings.token_file is not None:
        try:
            token = read_secret(settings.token_file).decode("ascii")
        except (OSError, ValueError) as error:
            raise ConfigError([Fault(str(settings.token_file), "", "a file that cannot be read", "a token")]) from error
    asker = Asker(settings.url, ca=settings.ca, timeout=settings.timeout, at_once=settings.at_once, token=token)
    return ByHttp(settings, asker.post, asker.aclose, wall=means.wall)


_MAKERS: Final[dict[Any, Make]] = {
    PasswordSettings: _by_password,
    CertificateSettings: _by_certificate,
    TokenSettings: _by_token,
    HttpSettings: _by_http,
}
_EXTRAS: Final[dict[Any, str]] = {
    PasswordSettings: f"{EXTRA}; mqttproxy[scram] too for scram = true, mqttproxy[postgresql] for postgresql",
    CertificateSettings: "install mqttproxy[certificates], which brings cryptography",
    TokenSettings: "install mqttproxy[tokens], which brings joserfc; mqttproxy[http] too for jwks",
    HttpSettings: "install mqttproxy[http], which brings httpx2",
}
