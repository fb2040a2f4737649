"""What a device shows when it connects, and what an authenticator says to it."""

from collections.abc import Mapping
from math import inf
from typing import Any, Protocol, Self

from attrs import Factory, field, frozen

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

    @property
    def are_shown(self) -> bool:
        """Whether the device says that it is somebody."""
        return self.username is not None or self.password is not None


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

    """

    by: str = ""
    username: str | None = None
    attributes: Mapping[str, str] = Factory(dict)
    grants: Grants = ()
    expires_at: float = inf
    rests_on: object = field(default=None, repr=False)


@frozen
class Denied:
    """The device is not who it says, or may not come in. `why` is for the audit trail, never for the device."""

    by: str
    why: str
    reason: ReasonCode = ReasonCode.BAD_USER_NAME_OR_PASSWORD


class BackEndDownError(Exception):
    """What an authenticator asks does not answer; in words."""


class Authenticator(Protocol):
    """One link of a chain."""

    settings: Any  # its table; `name` and `client_id` are there

    async def check(self, credentials: Credentials) -> Allowed | Denied | None:
        """Say whether a device is who it says; None: not mine, the next one is asked.

        Raises:
            BackEndDownError: it cannot be said now.

        """

    async def still(self, allowed: Allowed) -> bool:
        """Say whether what a device was let in by still holds. Raises BackEndDownError."""

    def adopt(self, before: Self) -> None:
        """Take over what is known by the same authenticator of the configuration before."""
