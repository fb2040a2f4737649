import io
import json
import sys

import pytest

from mqttproxy.quarantine.database import DATABASE
from mqttproxy.quarantine.payloads import FOLDER
from tests.cli.shell import Shell
from tests.quarantine.examples import NOW, damage, make_held, make_writer

LARGE = b"larger than ten bytes"
PLACED = (("/list/3/a", "type", "x"),)


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
    after = shell.out.split("--after ")[1].split()[0]
    assert shell("list", "--after", after) == 0
    assert "sensor/0" in shell.out
    assert "sensor/1" not in shell.out
    assert shell("list", "--after", "01KX") == 1
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
        (["--user", "bob"], "3"),
        (["--schema", "s@2"], "2"),
        (["--reason", "quota_exceeded"], "1"),
        (["--reason", "0x97"], "1"),
        (["--keyword", "type", "--pointer", "/deep"], "1"),
        (["--keyword", "required", "--pointer", "/deep"], ""),
        (["--pointer", "/list/*/a"], "2"),
        (["--pointer", "/list/7/a"], "2"),
        (["--state", "released"], ""),
        (["--state", "released", "--state", "held"], "123"),
        (["--since", "2027-01-15T08:00:02+00:00"], "23"),
        (["--until", "2027-01-15T08:00:02Z"], "1"),
        (["--since", "2027-01-15T08:00:02Z", "--until", "2027-01-15T08:00:03Z"], "2"),
        (["--since", "1h"], "123"),  # ago, and the example's times are to come
        (["--until", "1h"], ""),
    ],
)
def test_filters_choose(shell: Shell, arguments: list[str], found: str) -> None:
    shell.hold(
        make_held(at=NOW + 1, topic="a/b", failures=(("/deep", "type", "x"),), listener="1", reason=0x97),
        make_held(
            at=NOW + 2, topic="a/c", client_id="two", listener="2", schema="s@2", failures=(("/list/3/a", "type", "x"),)
        ),
        make_held(at=NOW + 3, topic="b", policy="p", listener="3", username="bob"),
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
        (["list", "--reason", "bad"], "no reason code"),
        (["list", "--state", "lost"], "lost"),
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
