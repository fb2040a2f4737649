"""Refused clients: for three days, bounded, each with the reason."""

import json

import pytest

from mqttproxy.limiting.refused import KEPT, RefusedClients, as_lines
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Identity


def refuse(clients: RefusedClients, client_id: str, wall: float, rule: str = "r") -> None:
    clients.add(Identity(client_id, None, "h", "l"), ReasonCode.NOT_AUTHORIZED, rule, "no", wall)


def told(clients: RefusedClients, wall: float) -> list[tuple[object, object]]:
    return [(one.as_document()["client_id"], one.times) for one in clients.newest(wall)]


def test_the_same_reason_again_is_counted() -> None:
    clients = RefusedClients()
    for wall in (1.0, 2.0):
        refuse(clients, "a", wall)
    refuse(clients, "b", 1.5)
    refuse(clients, "a", 3.0, "another")
    assert told(clients, 3.0) == [("a", 1), ("b", 1), ("a", 2)]
    document = clients.newest(3.0)[2].as_document()
    assert (document["first"], document["last"], document["reason"]) == (1.0, 2.0, "not_authorized")


def test_after_three_days_it_is_forgotten() -> None:
    clients = RefusedClients()
    refuse(clients, "a", 0.0)
    refuse(clients, "b", 1.0)
    assert told(clients, KEPT - 0.1) == [("b", 1), ("a", 1)]
    assert told(clients, KEPT) == [("b", 1)]
    assert clients.forgotten == 0


def test_there_are_at_most_so_many_and_what_devices_say_is_cut_and_escaped() -> None:
    clients = RefusedClients(most=2)
    for number, name in enumerate(("a", "b", "\x1b" * 5000)):
        refuse(clients, name, float(number))
    assert (len(clients), clients.forgotten) == (2, 1)
    shown = str(clients.newest(2.0)[0].as_document()["client_id"])
    assert len(shown) <= 256
    assert shown.isprintable()


def test_what_was_written_is_read_back_without_what_is_too_old_and_what_is_damaged() -> None:
    clients, again = RefusedClients(), RefusedClients()
    for number, name in enumerate("abcb"):
        refuse(clients, name, float(number))
    lines = as_lines(reversed(clients.newest(3.0))).splitlines()
    assert again.restore([lines[0], b"{", *lines[1:]], KEPT + 1) == 1
    assert [one.as_document() for one in again.newest(KEPT + 1)] == [
        one.as_document() for one in clients.newest(KEPT + 1)
    ]
    assert told(again, KEPT + 1) == [("b", 2), ("c", 1)]
    refuse(again, "c", KEPT + 1.5)
    assert told(again, KEPT + 1.5) == [("c", 2), ("b", 2)]


def test_no_more_are_read_back_than_may_be_and_the_oldest_are_left_out() -> None:
    clients, again = RefusedClients(), RefusedClients(most=2)
    for number, name in enumerate("abc"):
        refuse(clients, name, float(number))
    again.restore(as_lines(reversed(clients.newest(3.0))).splitlines(), 3.0)
    assert told(again, 3.0) == [("c", 1), ("b", 1)]


@pytest.mark.parametrize(
    ("key", "value"),
    [("client_id", 1), ("username", 1), ("reason", "nonsense"), ("reason", 1), ("last", "now"), ("times", True),
     ("first", -1), ("last", 1e300), ("words", None)],
)  # fmt: skip
def test_a_line_that_says_something_else_is_damaged(key: str, value: object) -> None:
    clients = RefusedClients()
    refuse(clients, "a", 1.0)
    document = clients.newest(1.0)[0].as_document() | {key: value}
    assert RefusedClients().restore([json.dumps(document).encode()], 1.0) == 1
    del document[key]
    assert RefusedClients().restore([json.dumps(document).encode(), b"[]", b"1"], 1.0) == 3


def test_each_refusal_is_a_change() -> None:
    clients = RefusedClients()
    refuse(clients, "a", 1.0)
    refuse(clients, "a", 2.0)
    assert clients.changes == 2
