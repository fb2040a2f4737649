import pytest

from mqttproxy.mqtt.packets import Properties
from mqttproxy.recorder.model import OVERHEAD, Recorded, Told, decode_told, row_of
from tests.recorder.examples import NOW, make


def test_what_is_told_comes_back_as_it_was() -> None:
    told = Told(
        client_id="d",
        username="u",
        address="192.0.2.7",
        listener="plain",
        attributes={"firmware": "2.1"},
        qos=2,
        retain=True,
        properties=Properties(correlation_data=b"\x00\xff", user_properties=(("k", "v"), ("k", "w"))),
        action="held",
        policy="p",
        schema="s@1",
        reason=0x99,
        failures=(("/a", "type", "no"),),
        destinations=("a", "local"),
        generation=7,
        masked="partly",
    )
    row = row_of(Recorded(id=None, at=NOW, topic="t/ü", payload=b"xyz", told=told))
    assert decode_told(row[4]) == told
    assert row[2] == 3 + len("t/ü".encode()) + len(row[4].encode()) + OVERHEAD


def test_text_that_is_not_unicode_cannot_be_stored() -> None:
    with pytest.raises(UnicodeEncodeError):
        row_of(make(client_id="\udc80"))


def test_a_message_without_an_identifier_is_named_by_its_row() -> None:
    assert make(7).name == "gw.1.7"
    assert Recorded(id=None, at=NOW, topic="t", payload=b"", told=make().told, seq=12).name == "r12"
