"""Refused clients: for three days, bounded, each with the reason."""

from mqttproxy.limiting.refused import KEPT, RefusedClients
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
