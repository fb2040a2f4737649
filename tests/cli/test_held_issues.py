import json

import pytest

from tests.cli.shell import Shell
from tests.quarantine.examples import NOW, make_held

MISSING = (("/value", "required", "value is missing"),)
WRONG = (("/values/3/unit", "enum", "is not one of them"),)


def listed(shell: Shell, *arguments: str) -> list[str]:
    assert shell("issues", "--json", *arguments) == 0
    return [json.loads(line)["pointer"] for line in shell.out.splitlines()]


def id_of(shell: Shell, pointer: str) -> str:
    assert shell("issues", "--all", "--json") == 0
    return next(str(found["id"]) for found in map(json.loads, shell.out.splitlines()) if found["pointer"] == pointer)


def test_issues_are_listed_the_last_seen_first(shell: Shell) -> None:
    shell.hold(make_held(failures=WRONG, at=NOW + 5), make_held(failures=MISSING), make_held(failures=MISSING))
    assert listed(shell) == ["/values/*/unit", "/value"]
    assert shell("issues") == 0
    assert "/values/*/unit" in shell.out
    assert "enum" in shell.out
    assert listed(shell, "--policy", "other") == []


def test_an_issue_is_told_with_its_devices_and_a_sample(shell: Shell) -> None:
    last = make_held(client_id="two\x1b")
    shell.hold(make_held(client_id="one"), last)
    identifier = id_of(shell, "/value")
    assert shell("issues", identifier.upper()) == 0
    assert last.id in shell.out
    assert "  one\n  two\\x1b\n" in shell.out
    assert shell("issues", identifier, "--json") == 0
    told = json.loads(shell.out)
    assert (told["count"], told["devices"], told["device_names"]) == (2, 2, ["one", "two\x1b"])
    assert (told["policy"], told["schema"], told["keyword"]) == ("temperature", "temperature@1", "required")


def test_what_is_muted_or_resolved_is_not_listed_until_it_is_asked_for(shell: Shell) -> None:
    shell.hold(make_held(failures=WRONG), make_held(failures=MISSING))
    assert shell("mute", id_of(shell, "/value")) == 0
    assert shell("resolve", id_of(shell, "/values/*/unit")) == 0
    assert listed(shell) == []
    assert shell("issues") == 0
    assert "no such issues" in shell.out
    assert listed(shell, "--state", "muted") == ["/value"]
    assert sorted(listed(shell, "--all")) == ["/value", "/values/*/unit"]
    assert shell("reopen", id_of(shell, "/value"), "--json") == 0
    assert json.loads(shell.out)["state"] == "open"
    assert listed(shell) == ["/value"]


def test_a_resolved_issue_that_is_seen_again_has_regressed_and_a_muted_one_stays_muted(shell: Shell) -> None:
    shell.hold(make_held(failures=WRONG), make_held(failures=MISSING))
    shell("mute", id_of(shell, "/value"))
    shell("resolve", id_of(shell, "/values/*/unit"))
    shell.hold(make_held(failures=WRONG), make_held(failures=MISSING))
    assert listed(shell, "--state", "regressed") == ["/values/*/unit"]
    assert listed(shell, "--state", "muted") == ["/value"]
    assert listed(shell) == ["/values/*/unit"]


def test_messages_of_an_issue_are_found(shell: Shell) -> None:
    wanted = make_held(failures=(*MISSING, *WRONG))
    shell.hold(wanted, make_held(failures=MISSING))
    assert shell("list", "--json", "--issue", id_of(shell, "/values/*/unit").upper()) == 0
    assert [json.loads(line)["id"] for line in shell.out.splitlines()] == [wanted.id]


@pytest.mark.parametrize("command", ["issues", "mute", "resolve", "reopen"])
def test_an_issue_that_is_not_there_exits_with_1(shell: Shell, command: str) -> None:
    shell.hold(make_held())
    assert shell(command, "0123") == 1
    assert "0123: no such issue" in shell.err


def test_where_nothing_was_held_there_are_no_issues(shell: Shell) -> None:
    assert shell("issues") == 0
    assert shell("mute", "x") == 1
    assert shell("mute") == 2
