"""A session that an earlier process left, taken up under today's settings."""

from typing import Any

from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.upstream.adopting import take_up
from mqttproxy.upstream.bell import Bell
from mqttproxy.upstream.books import Books
from mqttproxy.upstream.callbacks import Callbacks, Refusal
from mqttproxy.upstream.interest import Interest
from mqttproxy.upstream.mapping import TopicMap
from mqttproxy.upstream.naming import Naming
from tests.upstream.test_mapping import mapping
from tests.upstream.test_shaping import BAD, shape


class Durable(SessionState):
    """Notes what ended."""

    is_durable = True

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[int, bool]] = []

    def end(self, packet_ids: Any, *, accepted: bool) -> None:
        self.ended += [(packet_id, accepted) for packet_id in packet_ids]


def nothing(*_: object) -> None:
    pass


def test_what_is_in_flight_gets_its_shape_and_what_cannot_is_refused() -> None:
    session, books, told = Durable(), Books(), list[Refusal]()
    bad, released = Message("plant/2", b"bad", 2), Message("plant/3", b"bad", 2)
    session.outgoing = {1: (Message("plant/1", b"x", 2), "one"), 2: (bad, "two"), 3: (released, "three")}
    session.released = {3}
    callbacks = Callbacks(
        settled=nothing, refused=lambda _, refused: told.extend(refused), dropped=nothing, received=nothing,
        shape_of=lambda _: shape,
    )  # fmt: skip
    naming = Naming(Interest(Bell(), 0), TopicMap((mapping("plant/{line}/#", "acme/{line}/#"),)))
    take_up(session, "a", naming, books, callbacks)
    assert {number: (message.topic, message.payload) for number, (message, _) in session.outgoing.items()} == {
        1: ("acme/1", b"xx"),
        3: ("acme/3", b"bad"),  # only its PUBREL is sent
    }
    assert naming.local(session.outgoing[1][0]) == Message("plant/1", b"x", 2)
    assert told == [("two", bad, BAD)]
    assert session.ended == [(2, True)]
    books.check(queued=0, in_flight=2)
    assert books.in_flight_bytes == 5
