import json
import time
from pathlib import Path
from typing import Any

import pytest

from mqttproxy.cli.commands import app
from mqttproxy.config.model import Bytes, RecorderSettings
from mqttproxy.recorder import Recorded
from mqttproxy.recorder.tape import DATABASE, Tape, recorder_dir
from tests.recorder.examples import make, rows

POLICY = '[[policies]]\nname = "numbers"\ntopics = ["n/#"]\nformat = "{}"\n'


class Shell:
    """Runs backtests of what was recorded, and remembers what was written."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.config = folder / "proxy.toml"
        self.config.write_text(POLICY.format("text"))
        self.new = folder / "new.toml"
        self.new.write_text(POLICY.format("json"))
        self.out = self.err = ""
        self._capture = capture

    def record(self, *recorded: Recorded, **left_out: int) -> None:
        settings = RecorderSettings(enabled=True, keep_free=Bytes(0))
        tape = Tape(recorder_dir(self.config.parent / "data"), settings, now=time.time)
        tape.write(rows(*recorded), left_out)
        tape.close()

    def __call__(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            app(["backtest", "--config", str(self.config), "--policy", str(self.new), *arguments])
        self.out, self.err = self._capture.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def on(payload: bytes, number: int = 1, *, ago: float = 60.0, **told: Any) -> Recorded:
    return make(number, at=time.time() - ago, topic="n/1", payload=payload, **told)


def test_what_would_break_is_told_with_examples_and_the_exit_code(shell: Shell) -> None:
    bad: dict[str, Any] = {"client_id": "tx-2", "attributes": {"fw": "2.1"}}
    shell.record(on(b"1"), on(b"{", 2, **bad), on(b"\xff", 3, action="held", failures=(("", "utf-8", ""),)))
    assert shell() == 1
    lines = shell.out.splitlines()
    assert lines[0].startswith("3 recorded messages, from ")
    assert lines[2:5] == [
        "                     new: pass     new: fail",
        "now: pass                    1             1",
        "now: fail                    0             1",
    ]
    assert "  numbers                                      1       0          1          0" in lines
    assert "  fw = 2.1                                     1       0          0          0" in lines
    place = lines.index("WOULD BREAK, for example:")
    assert lines[place + 1] == "  gw.1.2  tx-2 on n/1"
    assert lines[place + 2].startswith("    (json): not JSON")


def test_where_nothing_would_break_the_exit_code_is_0(shell: Shell) -> None:
    shell.record(on(b"1"))
    assert shell() == 0
    assert "for example" not in shell.out


def test_for_programs_there_is_one_document(shell: Shell) -> None:
    shell.record(on(b"{", masked="partly"), on(b"*** 1 bytes", 2, masked="wholly"), rate=7, topic=1)
    assert shell("--json") == 1
    document = json.loads(shell.out)
    assert {key: document[key] for key in ("recorded", "judged", "masked", "hidden", "would_break")} == {
        "recorded": 2, "judged": 1, "masked": 1, "hidden": 1, "would_break": 1,
    }  # fmt: skip
    assert document["left_out"] == {"rate": 7, "topic": 1}
    assert document["samples"]["would_break"][0]["id"] == "gw.1.1"
    assert document["by"]["pointer"]["rows"][0]["would_break"] == 1


def test_what_was_not_recorded_or_is_masked_is_told(shell: Shell) -> None:
    shell.record(
        on(b"1", masked="partly", action="held", failures=(("/x", "type", ""),)),
        on(b"*** 1 bytes", 2, masked="wholly"),
        rate=7, percent=2, topic=1,
    )  # fmt: skip
    assert shell() == 0
    for words in (
        "9 messages of that time, on any topic of the recorder, were not recorded: percent 2, rate 7",
        "1 of them are masked as a whole and were not judged",
        "1 of them have masked values: what depends on these may be judged wrongly",
        "1 of them were judged otherwise when they came: masks,",
    ):
        assert words in shell.out


def test_only_what_is_young_enough_and_on_the_topics_is_judged(shell: Shell) -> None:
    shell.record(on(b"{", ago=7200), on(b"1"), make(3, at=time.time(), topic="other"))
    assert shell("--since", "1h", "--topic", "n/+", "--json") == 0
    assert json.loads(shell.out)["recorded"] == 1
    assert shell("--since", "3h", "--json") == 1
    assert json.loads(shell.out)["recorded"] == 3


def test_a_backtest_of_nothing_is_no_pass(shell: Shell) -> None:
    assert shell() == 2
    assert "nothing was recorded; messages are recorded while [recorder] is on" in shell.err
    shell.record(on(b"1", ago=7200))
    assert shell("--since", "1h") == 2
    assert "nothing was recorded within 1h" in shell.err


def test_wrong_use_and_faults_exit_with_two(shell: Shell) -> None:
    shell.record(on(b"1"))
    assert shell("--since", "long") == 2
    assert "--since: 'long' is not a duration" in shell.err
    assert shell("--topic", "a/#/b") == 2
    assert "--topic: 'a/#/b'" in shell.err
    shell.new.write_text("[[policies]]\n")
    assert shell() == 2
    assert str(shell.new) in shell.err
    shell.new.write_text(POLICY.format("json"))
    (recorder_dir(shell.config.parent / "data") / DATABASE).write_bytes(b"no database" * 1000)
    assert shell() == 2
    assert "file is not a database" in shell.err


def test_what_a_device_sent_cannot_command_the_terminal(shell: Shell) -> None:
    shell.record(on(b"{", client_id="\x1b[31m"))
    assert shell() == 1
    assert "\x1b" not in shell.out
