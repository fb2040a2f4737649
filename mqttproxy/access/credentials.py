"""What a device shows when it connects, and what an authenticator says to it."""

from collections.abc import Awaitable, Callable, Mapping
from math import inf
from types import MappingProxyType
from typing import Any, Final, Protocol, Self

from attrs import field, frozen

from mqttproxy.mqtt.reasons import ReasonCode

Grants = tuple[tuple[str, str], ...]  # ("publish" | "subscribe", topic filter): what credentials themselves allow


@frozen(kw_only=True)
class Credentials:
    """Everything that a device shows. Nothing of it is true before an authenticator says so."""

    client_id: str
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    listener: str = ""
    address: str = ""
    certificate: bytes | None = field(default=None, repr=False)  # in DER; TLS has verified that it is from the right CA
    common_name: str | None = None  # of a certificate that a load balancer has verified, and passed on no more of
    method: str | None = None  # of enhanced authentication, MQTT 5
    data: bytes = field(default=b"", repr=False)  # that begins it

    @property
    def are_shown(self) -> bool:
        """Whether the device says that it is somebody. A certificate is shown to TLS, whoever asks for it."""
        return self.username is not None or self.password is not None or self.method is not None


_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@frozen(kw_only=True)
class Allowed:
    """The device is who it says.

    Attributes:
        by: name of the authenticator; empty: nobody was asked.
        username: that is known to be right.
        attributes: that the authenticator vouches for.
        grants: what the credentials themselves allow, beside the rules.
        expires_at: seconds since 1970, when it must show credentials anew.
        rests_on: what it was judged by, such as the hash of a password; when that changes, it must come again.
        data: the last word of enhanced authentication, for the device.

    """

    by: str = ""
    username: str | None = None
    attributes: Mapping[str, str] = _NOTHING
    grants: Grants = ()
    expires_at: float = inf
    rests_on: object = field(default=None, repr=False)
    data: bytes | None = field(default=None, repr=False)


NOBODYS: Final = Allowed()


@frozen
class Denied:
    """The device is not who it says, or may not come in. `why` is for the audit trail, never for the device."""

    by: str
    why: str
    reason: ReasonCode = ReasonCode.BAD_USER_NAME_OR_PASSWORD


class BackEndDownError(Exception):
    """What an authenticator asks does not answer; in words."""


Ask = Callable[[bytes], Awaitable[bytes]]  # sends a challenge to a device, and returns its answer
NO_METHODS: Final[frozenset[str]] = frozenset()


class Authenticator(Protocol):
    """One link of a chain."""

    settings: Any  # its table; `name` and `client_id` are there
    methods: frozenset[str]  # of enhanced authentication

    @property
    def is_live(self) -> bool:
        """Whether what devices were let in by may change without a reload, see `stamp`."""

    async def check(self, credentials: Credentials) -> Allowed | Denied | None:
        """Say whether a device is who it says; None: not mine, the next one is asked.

        Raises:
            BackEndDownError: it cannot be said now.

        """

    async def converse(self, credentials: Credentials, ask: Ask) -> Allowed | Denied:
        """Do enhanced authentication by one of its methods. Raises BackEndDownError, and what `ask` does."""

    async def still(self, allowed: Allowed) -> bool:
        """Say whether what a device was let in by still holds. Raises BackEndDownError."""

    async def stamp(self) -> object:
        """Return what differs when something has changed by itself that devices were let in by.

        Raises:
            BackEndDownError: it cannot be said now.

        """

    def adopt(self, before: Self) -> None:
        """Take over what is known by the same authenticator of the configuration before."""

    async def aclose(self) -> None:
        """Let go of its connections: it is asked no more."""


class Simple:
    """What authenticators have in common that know no enhanced authentication, and hold no connections."""

    methods = NO_METHODS
    is_live = False

    async def converse(self, credentials: Credentials, ask: Ask) -> Allowed | Denied:  # noqa: ARG002 # nobody comes here
        """Deny: none of its methods, of which there are none, was asked for."""
        return Denied("", f"the method {credentials.method!r} is not known", ReasonCode.BAD_AUTHENTICATION_METHOD)

    async def stamp(self) -> object:
        """Return None: only a reload changes anything."""
        return None

    def adopt(self, before: Any) -> None:
        """Take over nothing: all that it knows was read anew."""

    async def aclose(self) -> None:
        """Do nothing."""
