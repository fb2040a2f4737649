"""How a link fails, and which failures count against the broker."""

from enum import Enum
from typing import Final

import trio

from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.packets import Properties
from mqttproxy.mqtt.reasons import ReasonCode


class Trouble(Enum):
    """What kind of failure it is; that decides when the broker is dialled again."""

    SILENT = "silent"  # no answer, no acknowledgement, no byte taken in time
    LOST = "lost"  # cannot be reached, hung up, broke the protocol
    BUSY = "busy"  # said so itself
    REFUSED = "refused"  # it does not want us: dialled again slowly, and no failure of the link
    TAKEN_OVER = "taken over"  # somebody else uses our client identifier

    @property
    def counts(self) -> bool:
        """True if it counts for the breaker."""
        return self in _COUNTED

    @property
    def is_suspicious(self) -> bool:
        """True if a message that was in flight may be the cause."""
        return self in _SUSPICIOUS


_COUNTED: Final = frozenset({Trouble.SILENT, Trouble.LOST, Trouble.BUSY})
_SUSPICIOUS: Final = frozenset({Trouble.SILENT, Trouble.LOST})

_BUSY: Final = frozenset({
    ReasonCode.SERVER_UNAVAILABLE,
    ReasonCode.SERVER_BUSY,
    ReasonCode.SERVER_SHUTTING_DOWN,
    ReasonCode.QUOTA_EXCEEDED,
    ReasonCode.CONNECTION_RATE_EXCEEDED,
})  # fmt: skip
_UNWANTED: Final = frozenset({
    ReasonCode.NOT_AUTHORIZED,
    ReasonCode.BANNED,
    ReasonCode.USE_ANOTHER_SERVER,  # we go where the settings say, not where a broker sends us
    ReasonCode.SERVER_MOVED,
})  # fmt: skip
FIRST_FAILURE: Final = 0x80  # of the reason codes
_SHOWN: Final = 200  # characters of a broker's own words that are shown


class LinkError(Exception):
    """The link failed. `str()` says it in words for a person."""

    def __init__(self, trouble: Trouble, words: str) -> None:
        super().__init__(words)
        self.trouble = trouble


# What an upstream can do to us. Whatever is not here is our bug, and must end the process.
LINK_FAILURES: Final = (LinkError, OSError, trio.BrokenResourceError, trio.TooSlowError, RemoteProtocolError)


def refusal(reason: ReasonCode, properties: Properties) -> LinkError:
    """Say that a CONNACK turned us away."""
    trouble = Trouble.BUSY if reason in _BUSY else Trouble.REFUSED
    return LinkError(trouble, f"the broker refused the connection: {in_words(reason, properties)}")


def dismissal(reason: ReasonCode, properties: Properties) -> LinkError:
    """Say that the broker ended the link with a DISCONNECT."""
    if reason is ReasonCode.SESSION_TAKEN_OVER:
        trouble = Trouble.TAKEN_OVER
    elif reason in _UNWANTED:
        trouble = Trouble.REFUSED
    else:
        trouble = Trouble.BUSY if reason in _BUSY else Trouble.LOST
    return LinkError(trouble, f"the broker ended the connection: {in_words(reason, properties)}")


def in_words(reason: ReasonCode, properties: Properties) -> str:
    """Return a reason with the broker's own words, escaped and cut short."""
    words = f"{reason.name.lower().replace('_', ' ')} (0x{reason:02X})"
    if properties.reason_string:
        words += f", {properties.reason_string[:_SHOWN]!r}"
    if properties.server_reference:
        words += f", it names another server: {properties.server_reference[:_SHOWN]!r}"
    return words


def as_link_error(group: BaseExceptionGroup[BaseException]) -> LinkError:
    """Return the one failure that tells most of a group: tasks of a link fall one after the other."""
    found = [_translate(error) for error in leaves(group)]
    return min(found, key=lambda error: _TELLING.index(error.trouble))


_TELLING: Final = (Trouble.TAKEN_OVER, Trouble.REFUSED, Trouble.BUSY, Trouble.SILENT, Trouble.LOST)


def _translate(error: BaseException) -> LinkError:
    if isinstance(error, LinkError):
        return error
    if isinstance(error, trio.TooSlowError):
        return LinkError(Trouble.SILENT, "the broker did not answer in time")
    if isinstance(error, RemoteProtocolError):
        return LinkError(Trouble.LOST, f"the broker broke the protocol: {error}")
    return LinkError(Trouble.LOST, str(error) or type(error).__name__)


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the errors of a group, and of groups within it."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
