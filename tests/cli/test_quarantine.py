import io
import json
import stat
import sys
from pathlib import Path

import pytest

from mqttproxy.cli.quarantine import moment, quarantine_app
from mqttproxy.quarantine.database import DATABASE, quarantine_dir
from mqttproxy.quarantine.model import Held
from mqttproxy.quarantine.payloads import FOLDER
from tests.quarantine.examples import NOW, SMALL_INLINE, damage, make_held, make_writer

LARGE = b"larger than ten bytes"


class Shell:
    """Runs commands on the quarantine of a configuration, and remembers what they wrote."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.config = folder / "proxy.toml"
        self.config.write_text('[proxy]\ndata_dir = "data"\n')
        self.directory = quarantine_dir(folder / "data")
        self.out = ""
        self.err = ""
        self._capture = capture

    def __call__(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            quarantine_app([*arguments, "--config", str(self.config)])
        self.out, self.err = self._capture.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code

    def hold(self, *held: Held) -> None:
        writer = make_writer(self.directory, SMALL_INLINE)
        writer.commit(held)
        writer.close()

    def ids(self) -> list[str]:
        assert self("list", "--json") == 0
        return [json.loads(line)["id"] for line in self.out.splitlines()]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path, capsys)


def test_where_nothing_was_held_yet_there_is_nothing_to_list(shell: Shell) -> None:
    for command in (["list"], ["export"], ["purge", "--all"]):
        assert shell(*command) == 0
        assert "nothing was held here yet" in shell.err
        assert not shell.out
    assert shell("show", "01KX") == 1
    assert not shell.directory.exists()


def test_list_shows_a_table_and_says_when_there_is_more(shell: Shell) -> None:
    shell.hold(*(make_held(topic=f"sensor/{number}", at=NOW + number) for number in range(3)))
    assert shell("list", "--limit", "2") == 0
    assert "sensor/2" in shell.out
    assert "sensor/1" in shell.out
    assert "sensor/0" not in shell.out
    assert "the newest 2 are shown" in shell.out
    assert shell("list", "--limit", "3") == 0
    assert "shown" not in shell.out


def test_list_for_programs_has_one_object_a_line_the_newest_first(shell: Shell) -> None:
    shell.hold(*(make_held(topic=f"sensor/{number}", at=NOW + number) for number in range(3)))
    assert shell("list", "--json") == 0
    assert [json.loads(line)["topic"] for line in shell.out.splitlines()] == ["sensor/2", "sensor/1", "sensor/0"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--topic", "a/+"], "12"),
        (["--topic", "a/#", "--client", "two"], "2"),
        (["--policy", "p"], "3"),
        (["--failure", "/deep"], "1"),
        (["--since", "2027-01-15T08:00:02+00:00"], "23"),
        (["--until", "2027-01-15T08:00:02Z"], "1"),
        (["--since", "2027-01-15T08:00:02Z", "--until", "2027-01-15T08:00:03Z"], "2"),
        (["--since", "1h"], "123"),  # ago, and the example's times are to come
        (["--until", "1h"], ""),
    ],
)
def test_filters_choose(shell: Shell, arguments: list[str], found: str) -> None:
    shell.hold(
        make_held(at=NOW + 1, topic="a/b", failures=(("/deep", "type", "x"),), listener="1"),
        make_held(at=NOW + 2, topic="a/c", client_id="two", listener="2"),
        make_held(at=NOW + 3, topic="b", policy="p", listener="3"),
    )
    assert shell("list", "--json", *arguments) == 0
    assert "".join(json.loads(line)["listener"] for line in reversed(shell.out.splitlines())) == found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--since", "yesterday"], "neither a duration"),
        (["list", "--since", "2027-13-01"], "neither a duration"),
        (["list", "--topic", "a/#/b"], "not the last level"),
        (["list", "--topic", "$share/g/a"], "shared subscription"),
        (["list", "--limit", "0"], "Must be >= 1"),
        (["list", "--limit", "x"], "int"),
        (["list", "--colour", "red"], "--colour"),
        (["show"], "requires an argument"),
        (["show", "X", "--raw", "--json"], "either --raw or --json"),
        (["purge"], "or --all"),
        (["purge", "--yes"], "or --all"),
        (["purge", "--all", "--client", "x"], "not both"),
    ],
)
def test_wrong_use_is_told_and_exits_with_2(shell: Shell, arguments: list[str], words: str) -> None:
    assert shell(*arguments) == 2
    assert words in " ".join(shell.err.replace("│", " ").split())


def test_show_tells_everything(shell: Shell) -> None:
    held = make_held(payload=b'{"a": 1}')
    shell.hold(held)
    assert shell("show", held.id.lower()) == 0
    assert f"id:         {held.id}" in shell.out
    assert '{"a": 1}' in shell.out
    assert shell("show", held.id, "--json") == 0
    assert json.loads(shell.out)["json"] == {"a": 1}


def test_show_raw_writes_the_original_bytes(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = b"\xff\x00\x1b[2J" + LARGE
    held = make_held(payload=payload)
    shell.hold(held)
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written))
    assert shell("show", held.id, "--raw") == 0
    assert written.getvalue() == payload


def test_show_of_what_is_not_held_exits_with_1(shell: Shell) -> None:
    shell.hold(make_held())
    assert shell("show", "01\x1b[2J") == 1
    assert "01\\x1b[2J: no such message is held" in shell.err


def test_export_writes_payloads_the_oldest_first(shell: Shell) -> None:
    shell.hold(make_held(payload=b"1", at=NOW), make_held(payload=LARGE, at=NOW + 1))
    assert shell("export") == 0
    lines = [json.loads(line) for line in shell.out.splitlines()]
    assert [line["payload"] for line in lines] == ["MQ==", "bGFyZ2VyIHRoYW4gdGVuIGJ5dGVz"]
    assert [line.get("json") for line in lines] == [1, None]
    assert "2 messages exported" in shell.err


def test_G12_an_exported_file_is_for_its_owner_only(shell: Shell, tmp_path: Path) -> None:  # the row's id
    shell.hold(make_held())
    output = tmp_path / "out.jsonl"
    output.write_text("from before, and much longer than one line of what will be written here" * 100)
    output.chmod(0o644)
    assert shell("export", "--output", str(output)) == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert len(output.read_text().splitlines()) == 1
    assert not shell.out


def test_export_tells_of_a_payload_that_cannot_be_read_and_goes_on(shell: Shell) -> None:
    lost = make_held(payload=LARGE)
    shell.hold(lost, make_held())
    for file in (shell.directory / FOLDER).iterdir():
        file.unlink()
    assert shell("export") == 1
    assert len(shell.out.splitlines()) == 1
    assert f"{lost.id}: the payload cannot be read" in shell.err
    assert shell("show", lost.id) == 1


def test_purge_asks_first(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.hold(make_held(client_id="x"), make_held(client_id="x"), make_held(client_id="y"))
    for answer in ("n\n", "", "\n", "never\n"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        assert shell("purge", "--client", "x") == 1
        assert "remove 2 messages for good? [y/N]" in shell.err
        assert "nothing was removed" in shell.err
    assert len(shell.ids()) == 3
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert shell("purge", "--client", "x") == 0
    assert shell.out == "2 messages removed\n"
    assert len(shell.ids()) == 1


def test_purge_all_for_programs(shell: Shell) -> None:
    shell.hold(make_held(), make_held(payload=LARGE))
    assert shell("purge", "--all", "--yes", "--json") == 0
    assert json.loads(shell.out) == {"removed": 2}
    assert not list((shell.directory / FOLDER).iterdir())
    assert shell("purge", "--all") == 0  # nothing there: nothing to ask
    assert shell.out == "0 messages removed\n"


def test_purge_works_while_the_proxy_writes(shell: Shell) -> None:
    writer = make_writer(shell.directory)
    writer.commit([make_held()])
    assert shell("purge", "--all", "--yes") == 0
    writer.commit([make_held()])
    assert len(shell.ids()) == 1
    writer.close()


def test_a_faulty_configuration_exits_with_1(shell: Shell) -> None:
    shell.config.write_text("[proxy]\ndata_dir = 5\n")
    assert shell("list") == 1
    assert "proxy.data_dir" in shell.err
    shell.config.unlink()
    assert shell("list") == 1
    assert "no such file" in shell.err


def test_a_damaged_database_exits_with_1_and_says_where(shell: Shell) -> None:
    shell.hold(*(make_held() for _ in range(100)))
    damage(shell.directory / DATABASE)
    for command in (["list"], ["export"], ["purge", "--all", "--yes"]):
        assert shell(*command) == 1
        assert str(shell.directory) in shell.err


@pytest.mark.parametrize("text", ["1h", "60m", "3600s", "1970-01-12T13:46:40+00:00"])
def test_a_moment_is_a_duration_ago_or_a_time(text: str) -> None:
    assert moment(text, 1_003_600.0) == 1_000_000.0


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "now", "9" * 400 + "s", "\udc80"])
def test_anything_else_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        moment(text, 0.0)
