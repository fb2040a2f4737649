"""Steps that no good client takes: packets with some bytes bent, and several clients at the same time.

Which of them still are MQTT, the state machine of the proxy says (`judged`), so that a conversation can go on in step
and a difference has words: what the proxy refuses and Mosquitto takes is named by what the proxy says of it.
"""

from copy import deepcopy
from typing import Final

from attrs import frozen
from hypothesis import strategies as st

from mqttproxy.mqtt import packets
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.server import ServerConnection, ServerLimits
from mqttproxy.mqtt.session_state import SessionState
from tests.conformance.packets import Kind, connect
from tests.model.peer import Peer
from tests.model.steps import Connect, Leave, Publish, Step, Subscribe, Unsubscribe, Wanted, connects

STRANGER: Final = "m"  # whoever comes with a bent CONNECT: no single bit makes it another client
UNRELATED: Final = 900_000  # added to what a bent message says, so that it is not taken for another one

# Packets that no step writes; bent or not. Their packet identifiers may be known or not.
RAW: Final = (
    b"\xc0\x00", b"\xd0\x00", b"\xe0\x00", b"\xe0\x01\x04", b"\xe0\x02\x00\x00", b"\xf0\x00", b"\xf0\x02\x18\x00",
    b"\x40\x02\x00\x63", b"\x50\x02\x00\x63", b"\x62\x02\x00\x63", b"\x70\x02\x00\x63", b"\x40\x03\x00\x63\x10",
    b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x00", b"\xb0\x02\x00\x01", b"\x00\x00", b"\x30\x00", b"\x82\x02\x00\x01",
    b"\x30\x05\x00\x03a/b", b"\x32\x07\x00\x03a/b\x00\x00", b"\x36\x03\x00\x01a", b"\x30\x80\x80\x80\x80\x01",
)  # fmt: skip
_NAMES: Final = (
    "",
    "+",
    "#",
    "a/#/b",
    "$SYS/x",
    "$x",
    "/",
    "a//b",
    "é",
    "\x01",
    "a\0",
    "\ufeffa",
    "$share/g/a",
    "$share//a",
)


@frozen
class Bent:
    """A packet with some bytes changed, after which the connection ends.

    Attributes:
        packet: of a step, or as it stands.
        changes: what is done (0 flip, 1 put before, 2 leave out), where, and with which value, one after another.

    """

    client: str
    packet: Step | bytes
    changes: tuple[tuple[int, int, int], ...] = ()


@frozen
class Together:
    """What several clients do at the same time; a client has one step at most."""

    steps: tuple[Publish | Bent, ...]


Turn = Step | Bent | Together


@frozen
class Verdict:
    """What the proxy's state machine makes of bytes.

    Attributes:
        sent: the bytes, in hexadecimal.
        version: that is spoken.
        words: why it refuses them; empty: it does not.
        owed: answers that may take a commit to disk.
        is_whole: no half packet is left.
        has_qos2: a message is among them of which no PUBREL will come: it is handed on, or is not.
        is_second_connect: they begin as a CONNECT does, on a connection that has one.

    """

    sent: str
    version: int
    words: str
    owed: int
    is_whole: bool
    has_qos2: bool
    is_second_connect: bool


def bent_bytes(step: Bent, peer: Peer, number: int) -> bytes:
    """Return what is sent. The peer does not learn of it: what comes of such bytes nobody knows."""
    if isinstance(step.packet, bytes):
        data = bytearray(step.packet)
    else:
        data = bytearray(deepcopy(peer).write(step.packet, UNRELATED + number))
    for what, place, value in step.changes:
        at = place % (len(data) + 1)
        match what:
            case 0 if at < len(data):
                data[at] ^= value
            case 1:
                data.insert(at, value)
            case 2:
                del data[at : at + 1]
    return bytes(data) or b"\xc0\x00"


def judged(step: Bent, version: int, data: bytes) -> Verdict:
    """Return what the proxy's state machine makes of the bytes."""
    conn = ServerConnection(ServerLimits(), now=0.0)
    owed, words, has_qos2 = 0, "", False
    is_greeting = isinstance(step.packet, Connect)
    stream = data if is_greeting else connect(version, "judged") + data
    try:
        events = conn.receive(stream, 0.0)
        while events or (events := conn.next_batch(0.0)):
            for event in events:
                if isinstance(event, packets.Connect):
                    conn.accept(SessionState(), session_present=False, client_id=event.client_id or "judged")
                owed += isinstance(event, packets.Publish) and event.qos > 0
                has_qos2 |= isinstance(event, packets.Publish) and event.qos == 2
            owed += sum(isinstance(event, packets.Connect) for event in events) * is_greeting
            events = []
    except RemoteProtocolError as error:
        words = str(error)
    return Verdict(
        data.hex(" "),
        conn.version,
        words,
        owed if not words else 0,
        not conn._decoder.buffered,
        has_qos2,
        not is_greeting and data[0] >> 4 == Kind.CONNECT,
    )


_changes = st.lists(
    st.tuples(
        st.sampled_from((0, 0, 0, 1, 2)), st.integers(0, 40), st.sampled_from((1, 2, 4, 8, 16, 32, 64, 128, 255))
    ),
    max_size=2,
).map(tuple)
_topics = st.sampled_from(("a", "a/b", "b", *_NAMES))
_levels = st.integers(0, 2)


def bent(online: tuple[str, ...]) -> st.SearchStrategy[Bent]:
    """Return bent packets of those who are connected, and of a stranger who connects."""
    client = st.sampled_from(online)

    def of(name: str) -> st.SearchStrategy[Bent]:
        wanted = st.builds(Wanted, _topics, _levels, handling=st.integers(0, 3))
        step = st.one_of(
            st.builds(Publish, st.just(name), _topics, _levels, st.booleans()),
            st.builds(
                Subscribe, st.just(name), st.lists(wanted, min_size=1, max_size=2).map(tuple), st.sampled_from((0, 1))
            ),
            st.builds(Unsubscribe, st.just(name), _topics),
            st.builds(Leave, st.just(name), st.booleans()),
            st.sampled_from(RAW),
        )
        return st.builds(Bent, st.just(name), step, _changes)

    stranger = connects.map(lambda one: Connect(STRANGER, one.version, one.clean, one.expiry, 0, one.will))
    return st.one_of(client.flatmap(of), client.flatmap(of), st.builds(Bent, st.just(STRANGER), stranger, _changes))


@st.composite
def together(draw: st.DrawFn, online: tuple[str, ...]) -> Together:
    """Draw what all who are connected do at once: they publish, and one of them or a stranger sends bent bytes."""
    steps: list[Publish | Bent] = [
        Publish(name, draw(st.sampled_from(("a", "a/b", "b"))), draw(_levels), times=draw(st.integers(1, 5)))
        for name in online
    ]
    if draw(st.booleans()):
        extra = draw(bent(online))
        steps = [step for step in steps if step.client != extra.client]
        steps.insert(draw(st.integers(0, len(steps))), extra)
    return Together(tuple(steps))
