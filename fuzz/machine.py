"""What both machine targets hold: a connection that meets any bytes stays in its bounds and errs only in one way."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.mqtt.client import ClientConnection
from mqttproxy.mqtt.decode import DecodeLimits, Decoder
from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.events import Settled
from mqttproxy.mqtt.packets import (
    Connect,
    Message,
    Packet,
    ProtocolVersion,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
)
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerConnection, State
from tests.mqtt.strategies import packets

# Small, so that short inputs reach every bound.
PACKET_SIZE = 1024
RECEIVE_MAXIMUM = 4
AWAITING_RELEASE = 6
ALIASES = 2
LARGEST = 8 * 1024  # bytes of an input: 2,000 packets or more, of some microseconds each
TOPIC = "topic/with/alias"
_few = st.integers(1, 3)  # packet identifiers that meet those of the machine


class Choices:
    """What the program behind the machine does, read from the first byte of the input."""

    def __init__(self, flags: int) -> None:
        self.version = ProtocolVersion.V5 if flags & 1 else ProtocolVersion.V311
        self.acknowledges = bool(flags & 2)
        self.refuses = bool(flags & 4)
        self.publishes = bool(flags & 8)
        self.has_session = bool(flags & 16)
        self.is_cut = bool(flags & 32)
        self.answers_connect = bool(flags & 64)


class Program(ABC):
    """A program behind a machine; it never does what would be our own error."""

    def __init__(self, conn: ServerConnection | ClientConnection, choices: Choices) -> None:
        self.conn = conn
        self.choices = choices
        self.open: list[tuple[int, int]] = []  # messages to acknowledge
        self.next_token = 100
        self.unsettled: set[object] = {item[1] for item in conn.session.outgoing.values()}
        self.kinds: list[str] = []
        self.error = ""
        self.ears = Decoder(version=choices.version, max_packet_size=2**28, limits=DecodeLimits())

    def run(self, stream: bytes) -> object:
        """Let the stream arrive; return what marks the input as new."""
        for piece in pieces(stream, max(7 if self.choices.is_cut else 300, len(stream) // 20)):
            try:
                events = self.conn.receive(piece, 1.0)
                while events or (events := self.conn.next_batch(1.0)):
                    for event in events:
                        self.kinds.append(type(event).__name__)
                        self.handle(event)
                    events = []
            except RemoteProtocolError as error:
                self.fail(error)
                break
            self.check(len(piece))
            self.check_words(len(piece))
        return tuple(self.kinds[-3:]), self.error[:24], self.conn.state.name, min(self.conn.strays, 2)

    def handle(self, event: object) -> None:
        """Do what a caller does with an event."""
        if isinstance(event, Settled):
            self.unsettled.remove(event.token)
        elif isinstance(event, Publish) and event.qos:
            self.open.append((event.packet_id, event.qos))
            if self.choices.acknowledges:
                self.acknowledge()
        if self.choices.publishes and self.conn.send_quota:
            self.publish()

    def acknowledge(self) -> None:
        """Acknowledge or refuse all that came."""
        if self.choices.refuses:
            for packet_id, qos in self.open:
                self.conn.acknowledge(packet_id, qos, ReasonCode.NOT_AUTHORIZED)
        else:
            self.conn.acknowledge_all(self.open)
        self.open.clear()

    def publish(self) -> None:
        """Publish one message."""
        self.next_token += 1
        sent = self.conn.publish([(Message(TOPIC, b"x", 1 + self.next_token % 2), self.next_token)])
        if not sent.done and not sent.too_large:
            self.unsettled.add(self.next_token)

    def fail(self, error: RemoteProtocolError) -> None:
        """Say the last words, and hold that they are the last."""
        self.error = f"{error.reason.name}: {error}"
        self.conn.fail(error)
        self.check_words(PACKET_SIZE)
        assert self.conn.state is State.CLOSED
        self.conn.receive_data(b"\xc0\x00", 1.0)
        self.acknowledge()
        self.conn.disconnect(ReasonCode.SUCCESS)
        assert self.conn.data_to_send() == b""

    def check(self, arrived: int) -> None:
        """Hold the bounds."""
        conn, session = self.conn, self.conn.session
        assert conn._decoder.buffered < PACKET_SIZE + arrived  # noqa: SLF001 - what is stored is not for callers
        assert conn.unacknowledged == len(self.open)
        assert len(session.incoming_qos2) <= AWAITING_RELEASE + len(pieces_of_qos2(arrived))
        assert session.released <= session.outgoing.keys()
        if conn.state is State.OPEN and conn.version is ProtocolVersion.V5:
            assert conn.unacknowledged <= RECEIVE_MAXIMUM
        tokens = [item[1] for item in session.outgoing.values()]
        assert len(tokens) == len(set(tokens))
        assert self.unsettled >= set(tokens)

    def check_words(self, arrived: int) -> None:
        """Hold that what is said is whole packets, and not much more than what was heard."""
        words = bytes(self.conn.data_to_send())
        assert len(words) <= 400 + 20 * arrived
        ears = self.ears  # the same ones all the time: they know what each alias stands for
        ears.version = self.conn.version
        ears.topic_alias_maximum = self.aliases_taken()
        ears.feed(words)
        while packets := ears.packets():
            assert all(packet.topic in (TOPIC, "t") for packet in packets if isinstance(packet, Publish))
        assert not ears.buffered

    @abstractmethod
    def aliases_taken(self) -> int:
        """Return how many aliases the peer takes of us, by its own words."""


def pieces(stream: bytes, size: int) -> Iterator[bytes]:
    """Cut a stream."""
    return (stream[start : start + size] for start in range(0, len(stream), size))


def pieces_of_qos2(arrived: int) -> range:
    """Return as many as there can be messages at QoS 2 in so many bytes: those of one read may go over the bound."""
    return range(arrived // 8 + 1)


def exchanges(version: ProtocolVersion) -> SearchStrategy[Packet]:
    """Return the packets of QoS 1 and 2, with few identifiers."""
    return st.one_of(
        st.builds(Publish, st.just("t"), st.just(b"x"), st.integers(1, 2), packet_id=_few, dup=st.booleans()),
        *(st.builds(make, _few) for make in (PubAck, PubRec, PubRel, PubComp)),
        packets(version).filter(lambda packet: not isinstance(packet, Connect)),
    )


@st.composite
def streams(draw: st.DrawFn, greetings: dict[ProtocolVersion, SearchStrategy[Packet]]) -> bytes:
    """Draw the choices, a greeting in the version they name, and some packets."""
    flags = draw(st.integers(0, 127))
    version = Choices(flags).version
    greeting = draw(greetings[version])
    rest = draw(st.lists(exchanges(version), max_size=10))
    return bytes((flags,)) + b"".join(encode(packet, version) for packet in [greeting, *rest])
