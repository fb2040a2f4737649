import base64
import io
import json

import pytest
from hypothesis import given, strategies as st

from mqttproxy.cli.held_output import as_line, describe, hex_dump, printable, tabulate
from mqttproxy.mqtt.packets import Properties
from mqttproxy.quarantine.model import Record
from tests.quarantine.examples import NOW

RULE = {"policy": "temperature", "schema": "temperature@1"}
EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202e\u2028\x7f[red]x[/red]:smile:"


def make_record(**changes: object) -> Record:
    facts: dict[str, object] = {
        "seq": 1,
        "id": "01KXAMPLE00000000000000000",
        "at": NOW,
        "state": "held",
        "client_id": "dev-1",
        "username": None,
        "address": "192.0.2.7",
        "listener": "plain",
        "topic": "sensor/1",
        "qos": 2,
        "retain": True,
        "policy": "temperature",
        "schema": "temperature@1",
        "reason": 0x99,
        "failures": (("/value", "type", "is not a number"), ("", "required", "unit is missing")),
        "payload_size": 2,
        "file": None,
    }
    return Record(**facts | changes)  # type: ignore[arg-type]  # each of its own type


def evil_record() -> Record:
    return make_record(
        client_id=EVIL,
        username=EVIL,
        topic=EVIL,
        failures=((EVIL, EVIL, EVIL),),
        properties=Properties(content_type=EVIL, user_properties=((EVIL, EVIL),)),
    )


def table_of(*records: Record) -> str:
    file = io.StringIO()
    tabulate(records, file)
    return file.getvalue()


@given(st.text())
def test_only_plainly_visible_letters_are_left(text: str) -> None:
    assert printable(text).isprintable()
    printable(text).encode()


def test_what_is_escaped_can_be_recognised() -> None:
    assert printable("a\x1b[2J\u202e\ud800é") == "a\\x1b[2J\\u202e\\ud800é"
    assert printable("a\nb\tc\r", keep="\n\t") == "a\nb\tc\\r"


def test_no_terminal_sequence_of_a_device_gets_through() -> None:
    shown = table_of(evil_record())
    assert all(line.isprintable() for line in shown.split("\n"))
    shown = describe(evil_record(), EVIL.encode())
    assert all(line.isprintable() for line in shown.split("\n"))
    assert as_line(evil_record(), EVIL.encode()).isascii()
    assert as_line(evil_record()).replace("\x7f", "").isprintable()


def test_a_table_shows_markup_as_it_stands() -> None:
    assert "[red]x[/red]:smile:" in table_of(make_record(topic="[red]x[/red]:smile:"))


def test_a_table_tells_what_and_why() -> None:
    shown = table_of(make_record())
    for part in ("01KXAMPLE00000000000000000", "2027-01-15 08:00:00", "dev-1", "sensor/1", "temperature", " 2 "):
        assert part in shown
    assert "/value: type: is not a number (and 1 more)" in shown
    assert "no message is held" in table_of()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown_at(columns: int, *records: Record, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    tabulate(records, terminal)
    return [line.rstrip() for line in terminal.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").split("\n")]


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_a_narrow_terminal_gets_lines_that_can_be_read(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    records = make_record(), make_record(policy=None, payload_size=1, failures=())
    assert shown_at(columns, *records, monkeypatch=monkeypatch) == [
        "01KXAMPLE00000000000000000  2027-01-15 08:00:00  2 bytes  temperature",
        "  client dev-1",
        "  topic  sensor/1",
        "  why    /value: type: is not a number (and 1 more)",
        "01KXAMPLE00000000000000000  2027-01-15 08:00:00  1 byte",
        "  client dev-1",
        "  topic  sensor/1",
        "  why",
        "",
    ]


def test_a_wide_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown_at(160, make_record(), monkeypatch=monkeypatch)
    assert [line for line in lines if "dev-1" in line and "sensor/1" in line and "is not a number" in line]


@pytest.mark.parametrize("columns", [20, 80, 160])
def test_no_terminal_sequence_of_a_device_gets_through_at_any_width(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown_at(columns, evil_record(), make_record(topic="x" * 60_000), monkeypatch=monkeypatch)
    assert all(line.isprintable() for line in lines)
    assert sum(map(len, lines)) < 5000


def test_long_texts_are_cut_in_the_table() -> None:
    assert len(table_of(make_record(topic="x" * 60_000))) < 5000


def test_a_description_has_every_failure_and_the_text() -> None:
    shown = describe(make_record(properties=Properties(content_type="a/b")), b'{\n\t"a": 1}')
    assert "  /value: type: is not a number\n  whole payload: required: unit is missing\n" in shown
    assert 'properties: {"content_type":"a/b"}' in shown
    assert "reason:     0x99 payload format invalid" in shown
    assert shown.endswith('payload:    10 bytes, text\n{\n\t"a": 1}')


def test_an_unknown_reason_is_no_trouble() -> None:
    assert "reason:     0x03 unknown" in describe(make_record(reason=3), b"")


def test_what_is_not_text_is_dumped() -> None:
    shown = describe(make_record(), bytes(range(0xF0, 0x100)) + b"abc")
    assert "19 bytes, not text" in shown
    assert "00000000  f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 fa fb fc fd fe ff  ................" in shown
    assert f"00000010  61 62 63{' ' * 39}  abc" in shown


@given(st.binary(max_size=100))
def test_a_hex_dump_holds_every_byte(data: bytes) -> None:
    assert bytes.fromhex("".join(line[10:57] for line in hex_dump(data).split("\n"))) == data


def test_a_line_for_programs_tells_everything() -> None:
    properties = Properties(correlation_data=b"\x00", user_properties=(("k", "v"),))
    assert json.loads(as_line(make_record(properties=properties, issues=("0123456789ab",)), b'{"a": 1}')) == {
        "id": "01KXAMPLE00000000000000000",
        "state": "held",
        "at": NOW,
        "time": "2027-01-15T08:00:00.000+00:00",
        "client_id": "dev-1",
        "username": None,
        "address": "192.0.2.7",
        "listener": "plain",
        "attributes": {},
        "topic": "sensor/1",
        "qos": 2,
        "retain": True,
        "properties": {"correlation_data": "AA==", "user_properties": [["k", "v"]]},
        "policy": "temperature",
        "schema": "temperature@1",
        "reason": 153,
        "destination": None,
        "release": None,
        "released_at": None,
        "issues": ["0123456789ab"],
        "failures": [
            {"pointer": "/value", "keyword": "type", "message": "is not a number"} | RULE,
            {"pointer": "", "keyword": "required", "message": "unit is missing"} | RULE,
        ],
        "payload_size": 2,
        "masked": False,
        "payload": "eyJhIjogMX0=",
        "json": {"a": 1},
    }


@pytest.mark.parametrize(
    "payload", [b"\xff", b"", b"{", b"NaN", b"[Infinity]", b"1e999", b"9" * 5000, b"[" * 100_000, b"\xef\xbb\xbf{}"]
)
def test_a_payload_that_is_no_plain_JSON_is_given_as_bytes_only(payload: bytes) -> None:  # the word
    document = json.loads(as_line(make_record(), payload))
    assert base64.b64decode(document["payload"]) == payload
    assert "json" not in document


@given(st.binary(max_size=30))
def test_a_line_is_one_line_of_JSON_whatever_the_payload(payload: bytes) -> None:  # the word
    line = as_line(make_record(), payload)
    assert "\n" not in line
    assert base64.b64decode(json.loads(line)["payload"]) == payload
