import json
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from mqttproxy.cli.commands import app
from mqttproxy.config.model import Bytes, RecorderSettings
from mqttproxy.recorder import Recorded
from mqttproxy.recorder.tape import DATABASE, Tape, recorder_dir
from tests.recorder.examples import make, rows

MASKS = '[[masks]]\ntopics = ["sensor/#"]\npaths = ["/operator"]\n'


class Shell:
    """Infers schemas from what was recorded, and remembers what was written."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.config = folder / "proxy.toml"
        self.config.write_text("")
        self.out = self.err = ""
        self._capture = capture

    def record(self, *recorded: Recorded) -> None:
        settings = RecorderSettings(enabled=True, keep_free=Bytes(0))
        tape = Tape(recorder_dir(self.config.parent / "data"), settings, now=time.time)
        tape.write(rows(*recorded), {})
        tape.close()

    def __call__(self, *arguments: str, topic: str = "sensor/+", command: str = "infer") -> int:
        with pytest.raises(SystemExit) as end:
            app(["schema", command, "--config", str(self.config), "--topic", topic, *arguments])
        self.out, self.err = self._capture.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def reading(number: int, document: object = None, *, ago: float = 60.0, **told: Any) -> Recorded:
    payload = orjson.dumps(document if document is not None else {"celsius": 20.5 + number % 7, "unit": "C"})
    facts = {"client_id": f"tx-{number % 3}", **told}
    return make(number, at=time.time() - ago, topic=f"sensor/{number % 4}", payload=payload, **facts)


def test_a_schema_is_proposed_and_how_sure_it_is_is_told_beside_it(shell: Shell) -> None:
    shell.record(*[reading(number) for number in range(100)], make(200, at=time.time(), topic="other", payload=b"{}"))
    assert shell() == 0
    assert json.loads(shell.out) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "proposed from 100 messages of 3 devices on sensor/+",
        "type": "object",
        "properties": {
            "celsius": {"type": "number", "minimum": 20, "maximum": 27},
            "unit": {"type": "string", "enum": ["C"]},
        },
        "required": ["celsius", "unit"],
    }
    sure = "always     96.3%        3"
    assert shell.err.splitlines() == [
        "proposed from 100 messages of 3 devices on sensor/+",
        "",
        "place                              there  at least  devices  what was seen",
        f"(payload)                         {sure}  object",
        f"/celsius                          {sure}  required, number; from 20.5 to 26.5",
        f"/unit                             {sure}  required, string; 1 different texts, the rarest 100 times",
    ]


def test_the_schema_can_go_to_a_file_that_a_policy_can_use_at_once(shell: Shell) -> None:
    shell.record(*[reading(number) for number in range(100)])
    folder = shell.config.parent / "schemas" / "reading"
    folder.mkdir(parents=True)
    assert shell("--out", str(folder / "1.json")) == 0
    assert shell.out.startswith("proposed from 100 messages")
    assert not shell.err
    with pytest.raises(SystemExit) as end:
        app(["schema", "check", "--config", str(shell.config)])
    assert end.value.code == 0
    before = (folder / "1.json").read_bytes()
    assert shell("--out", str(folder / "1.json")) == 2
    assert "is there already" in shell.err
    assert (folder / "1.json").read_bytes() == before


def test_for_programs_there_is_one_document(shell: Shell) -> None:
    shell.record(*[reading(number) for number in range(40)])
    assert shell("--json") == 0
    document = json.loads(shell.out)
    assert (document["messages"], document["devices"]) == (40, 3)
    assert document["schema"]["required"] == ["celsius", "unit"]
    (place,) = [place for place in document["places"] if place["pointer"] == "/celsius"]
    assert (place["count"], place["required"], place["types"]) == (40, True, {"number": 40})
    assert 0.9 < place["at_least"] < 0.92


def test_more_or_less_can_be_asked_of_the_evidence(shell: Shell) -> None:
    shell.record(*[reading(number) for number in range(10)])
    assert shell() == 0
    assert "required" not in json.loads(shell.out)
    assert shell("--sure", "0.5") == 0
    assert json.loads(shell.out)["required"] == ["celsius", "unit"]


def test_what_is_not_looked_at_is_told(shell: Shell) -> None:
    shell.config.write_text(MASKS)
    shell.record(
        *[reading(number, {"celsius": 20, "operator": "***"}, masked="partly", client_id="d") for number in range(50)],
        reading(60, "bad", action="held"),
        reading(61, action="observed", client_id="d"),
        make(62, at=time.time(), topic="sensor/1", payload=b"*** 9 bytes", masked="wholly"),
        make(63, at=time.time(), topic="sensor/1", payload=b"{"),
        reading(64, "old", ago=7200),
    )
    assert shell() == 0
    schema = json.loads(shell.out)
    assert schema["properties"]["operator"] == {}
    assert schema["required"] == ["celsius"]
    assert shell.err.splitlines()[:6] == [
        "proposed from 51 messages of 1 devices on sensor/+",
        "1 messages were held, refused or marked, and are not looked at",
        "1 messages are not the JSON that everybody reads in the same way",
        "1 messages are masked as a whole",
        "50 messages have masked values: these places are left open",
        "all of one device: others may send something else",
    ]
    assert "/operator" in shell.err
    assert "masked: left open" in shell.err


def test_where_there_is_nothing_nothing_is_proposed(shell: Shell) -> None:
    assert shell() == 2
    assert "messages are recorded while [recorder] is on" in shell.err
    shell.record(reading(1, "bad", action="refused"))
    assert shell() == 2
    assert shell.err.startswith("nothing to propose from: 1 messages were held, refused or marked")
    assert shell(topic="elsewhere") == 2
    assert shell.err == "nothing to propose from: no message was recorded\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "long"], "--since: 'long' is not a duration"),
        (["--sure", "2"], "--sure: 2.0 is not from 0 to 1"),
        (["--out", "/no/folder/1.json"], "No such file"),
    ],
)
def test_wrong_use_exits_with_two(arguments: list[str], words: str, shell: Shell) -> None:
    shell.record(reading(1))
    assert shell(*arguments) == 2
    assert words in shell.err
    assert shell(topic="a/#/b") == 2
    assert "--topic: 'a/#/b'" in shell.err


def test_a_damaged_file_is_told(shell: Shell) -> None:
    shell.record(reading(1))
    (recorder_dir(shell.config.parent / "data") / DATABASE).write_bytes(b"no database" * 1000)
    assert shell() == 2
    assert "file is not a database" in shell.err


def test_what_a_device_sent_cannot_command_the_terminal(shell: Shell) -> None:
    shell.record(*[reading(number, {"\x1b[31m": "\x1b[31m"}) for number in range(50)])
    assert shell() == 0
    assert "\x1b" not in shell.out + shell.err
