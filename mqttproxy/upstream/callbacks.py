"""What an upstream tells the pipeline: once for everything that came in one read, never once a message."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from attrs import frozen
from msgspec import Struct

from mqttproxy.mqtt.packets import Message, Publish
from mqttproxy.mqtt.reasons import ReasonCode


@frozen
class Poison:
    """The message was in flight at so many lost links, at the last of them by itself."""

    links: int


@frozen
class Unshaped:
    """The message could not be made into what this upstream gets."""

    pointer: str  # into its payload, short and printable
    words: str


Refusal = tuple[object, Message, ReasonCode | Poison | Unshaped]  # token, message, why
Shape = Callable[[Message], Message | Unshaped]  # from a message to what an upstream gets of it


class Arrival(Struct, frozen=True):
    """A message from the broker, under its local name, and for whom it is.

    Attributes:
        publish: its retain flag is to be believed: set, the message is a stored one (`retained_for`), or was published
            with the flag and has come for devices that want to know.
        filters: the local topic filters it came for, shared ones as `$share/group/filter`: for the devices subscribed
            to them without Retain As Published. None: not known, so all that match.
        as_published: the same for the devices with Retain As Published.
        retained_for: the sessions that asked; a stored message is for them alone. None: a live message.

    """

    publish: Publish
    filters: tuple[str, ...] | None = None
    as_published: tuple[str, ...] | None = None
    retained_for: tuple[object, ...] | None = None


class Done(Protocol):
    """To be called once, at once or later, when what was received need not be sent again by the broker."""

    def __call__(self, refused: Mapping[int, ReasonCode] | None = None) -> None:
        """Let the broker be told.

        Args:
            refused: place in the list of arrivals, and why the message is refused. MQTT 3.1.1 cannot say it: there it
                is acknowledged.

        """


@frozen(kw_only=True)
class Callbacks:
    """Called in the trio thread, never waiting. What they raise is a bug and ends the process.

    Attributes:
        settled: (upstream, tokens) of messages that are where they belong: PUBACK, PUBCOMP, or written at QoS 0. A
            token that is None is not told.
        refused: (upstream, [(token, message, reason)]) of messages that will never get there: the broker's negative
            final negative answer, too large for it (0x95), they kill links (`Poison`), they cannot be made into what it
            gets (`Unshaped`), or the upstream was removed (0x98). QoS 0 included, with the token None.
        dropped: (upstream, tokens) of messages that were over before they could go, as their expiry interval says.
        received: (upstream, arrivals, done) of what came in one read. Acknowledgements go to the broker in the order in
            which messages came, whatever the order in which each `done` is called; after the end of the link it means
            nothing. Until then the broker sends at most `receive_maximum` more.
        identify: (token) to a user property, encoded, that tells the message from all others; None: there is none.
        shape_of: (upstream) to what makes the messages that it gets, as settings now say; None: they go as they are.

    """

    settled: Callable[[str, list[object]], None]
    refused: Callable[[str, list[Refusal]], None]
    dropped: Callable[[str, list[object]], None]
    received: Callable[[str, Sequence[Arrival], Done], None]
    identify: Callable[[object], bytes] | None = None
    shape_of: Callable[[str], Shape | None] = lambda _: None


class Owner(Protocol):
    """What a link tells its supervisor."""

    def link_proved(self) -> None:
        """The link carried a message to the end, or lasted. Called once."""

    def nothing_left(self) -> None:
        """Nothing waits and nothing is in flight."""
