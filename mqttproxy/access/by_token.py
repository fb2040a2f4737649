"""The authenticator that goes by JSON Web Tokens (RFC 7519): of one issuer, for one audience, with an end."""

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, Self

from joserfc import jwt
from joserfc.errors import JoseError

from mqttproxy.access.credentials import Allowed, Credentials, Denied, Grants, Simple
from mqttproxy.access.keys import TokenKey, quietly
from mqttproxy.config.admitting import TokenSettings
from mqttproxy.config.users_file import name_fault
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.topics import check_topic_filter

MOST_GRANTS: Final = 100  # filters of one token
_BASE64: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class Keys(Protocol):
    """Where keys are looked up."""

    async def find(self, kid: str | None) -> TokenKey | None:
        """Return a key, None: there is none. Raises BackEndDownError."""

    def adopt(self, before: Any) -> None:
        """Take over what is known by those of the configuration before."""

    async def aclose(self) -> None:
        """Let go of connections."""


class FixedKeys:
    """Keys of files."""

    def __init__(self, keys: Mapping[str | None, TokenKey]) -> None:
        self._keys = keys

    async def find(self, kid: str | None) -> TokenKey | None:
        """Return a key, None: there is none."""
        return self._keys.get(kid)

    def adopt(self, before: Any) -> None:
        """Take over nothing: files were read anew."""

    async def aclose(self) -> None:
        """Do nothing: there are no connections."""


class _TokenError(Exception):
    """A token is no good; in words."""


class ByToken(Simple):
    """See the module."""

    def __init__(
        self, settings: TokenSettings, keys: Keys, *, longest: int, wall: Callable[[], float] = time.time
    ) -> None:
        """Make it.

        Args:
            settings: its table.
            keys: of the issuer.
            longest: bytes of a token.
            wall: seconds since 1970.

        """
        self.settings = settings
        self.keys = keys
        self._longest = longest
        self._wall = wall

    async def check(self, credentials: Credentials) -> Allowed | Denied | None:
        """Say whom a token stands for. What is no token, or another issuer's, is not ours."""
        token = self._token(credentials)
        if token is None:
            return None
        parts = token.split(".")
        header, claims = _read(parts[0]), _read(parts[1])
        if header is None or claims is None or claims.get("iss") != self.settings.issuer:
            return None
        try:
            return self._allowed(*await self._verified(token, header))
        except _TokenError as error:
            return Denied(self.settings.name, str(error))

    async def still(self, allowed: Allowed) -> bool:
        """Say whether the issuer has still the key that has signed the token."""
        kid, key = allowed.rests_on if isinstance(allowed.rests_on, tuple) else (None, None)
        found = await self.keys.find(kid)
        return found is not None and key == found.key.thumbprint()

    def adopt(self, before: Self) -> None:
        """Keep the keys that were fetched."""
        self.keys.adopt(before.keys)

    async def aclose(self) -> None:
        """Let go of the connection to the issuer."""
        await self.keys.aclose()

    def _token(self, credentials: Credentials) -> str | None:
        """Return what has the form of a token, and is not too long."""
        if self.settings.field == "username":
            text = credentials.username
        else:
            password = credentials.password
            text = password.decode("ascii", "replace") if password and len(password) <= self._longest else None
        if text is None or len(text) > self._longest or text.count(".") != 2:
            return None
        return text if all(part and _BASE64.issuperset(part) for part in text.split(".")) else None

    async def _verified(self, token: str, header: Mapping[str, Any]) -> tuple[dict[str, Any], object]:
        kid = header.get("kid")
        if kid is not None and not isinstance(kid, str):
            raise _TokenError("a kid that is no text")
        if "crit" in header:
            raise _TokenError("critical headers that are not known here")
        key = await self.keys.find(kid)
        if key is None:
            raise _TokenError("a key that is not known here")
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in key.algorithms:
            raise _TokenError("an algorithm that its key is not for")
        try:
            with quietly():
                claims = jwt.decode(token, key.key, algorithms=[algorithm]).claims
        except (JoseError, ValueError, TypeError) as error:
            raise _TokenError(f"not signed by its key ({type(error).__name__})") from error
        self._check(claims)
        return claims, (kid, key.key.thumbprint())

    def _check(self, claims: Mapping[str, Any]) -> None:
        """Hold the claims against what they must be: nothing is taken for granted, and nothing nearly right is."""
        now, leeway = self._wall(), self.settings.leeway
        if claims.get("iss") != self.settings.issuer:
            raise _TokenError("another issuer")
        audience = claims.get("aud")
        if self.settings.audience not in (audience if isinstance(audience, list) else [audience]):
            raise _TokenError("for another audience")
        expiry, not_before, issued = (claims.get(name) for name in ("exp", "nbf", "iat"))
        if expiry is None or not _is_time(expiry):
            raise _TokenError("no expiry")
        if expiry + leeway <= now:
            raise _TokenError("expired")
        if expiry - now > self.settings.longest + leeway:
            raise _TokenError("an expiry that is too far away")
        for name, value in (("nbf", not_before), ("iat", issued)):
            if value is not None and (not _is_time(value) or value > now + leeway):
                raise _TokenError(f"{name} is in the future, or no time")

    def _allowed(self, claims: Mapping[str, Any], rests_on: object) -> Allowed:
        username = claims.get(self.settings.username)
        if not isinstance(username, str) or name_fault(username):
            raise _TokenError(f"the claim {self.settings.username} is no name")
        attributes = {}
        for name, claim in self.settings.attributes:
            value = claims.get(claim)
            if isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            if isinstance(value, str):
                attributes[name] = value
            elif value is not None:
                raise _TokenError(f"the claim {claim} is no text")
        return Allowed(
            by=self.settings.name,
            username=username,
            attributes=attributes,
            grants=() if self.settings.acl is None else _grants(claims.get(self.settings.acl)),
            expires_at=claims["exp"] + self.settings.leeway,
            rests_on=rests_on,
        )


def _read(part: str) -> dict[str, Any] | None:
    """Return the object that a part of a token holds, None: it holds none."""
    try:
        document = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode())
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53


def _grants(claim: Any) -> Grants:
    """Return what a token itself allows. Nothing said is nothing; anything odd refuses the token."""
    if claim is None:
        return ()
    if not isinstance(claim, dict) or not claim.keys() <= {"publish", "subscribe"}:
        raise _TokenError("its access list is no list of publish and subscribe")
    found = []
    for what, filters in claim.items():
        if not isinstance(filters, list) or not all(isinstance(one, str) for one in filters):
            raise _TokenError("its access list is no list of topic filters")
        for one in filters:
            try:
                check_topic_filter(one)
            except RemoteProtocolError as error:
                raise _TokenError(f"its access list: {error}") from error
            if one.startswith("$"):
                raise _TokenError("its access list names topics of servers")
            found.append((what, one))
    if len(found) > MOST_GRANTS:
        raise _TokenError("its access list is too long")
    return tuple(found)
