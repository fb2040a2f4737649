import io
import json
import sys

import pytest

from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.filters import Filters
from mqttproxy.quarantine.releases import Options, Order
from tests.cli.shell import Shell
from tests.quarantine.examples import NOW, make_held

UPSTREAM = '\n[[upstreams]]\nname = "a"\nurl = "mqtt://127.0.0.1:1"\n'


def ordered(shell: Shell, number: int = 1) -> Order:
    with Archive(shell.directory) as archive:
        found = archive.release(number)
    assert found is not None
    return found.order


def test_a_release_is_ordered_with_all_that_was_asked_for(shell: Shell) -> None:
    shell.config.write_text(shell.config.read_text() + UPSTREAM)
    shell.hold(make_held(), make_held(client_id="other"))
    how = ["--rate", "7", "--failure-ratio", "0.5", "--to", "a", "--to", "local", "--ignore-expiry", "--clear-retain"]
    assert shell("release", "--client", "dev-1", "--yes", *how) == 0
    assert shell.out.startswith("release 1: 1 message; ")
    assert ordered(shell) == Order(
        filters=Filters(client_id="dev-1", states=("held",)),
        destinations=("a", "local"),
        options=Options(ignore_expiry=True, clear_retain=True),
        rate=7.0,
        failure_ratio=0.5,
    )


def test_messages_can_be_named(shell: Shell) -> None:
    one, _, other = held = [make_held() for _ in range(3)]
    shell.hold(*held)
    assert shell("release", one.id.lower(), other.id, "--yes", "--json") == 0
    assert json.loads(shell.out)["total"] == 2
    assert ordered(shell).filters.ids == (one.id, other.id)


def test_it_asks_first(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.hold(make_held(), make_held())
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert shell("release", "--all") == 1
    assert "release 2 messages? [y/N]" in shell.err
    assert shell("releases", "--json") == 0
    assert not shell.out


def test_releases_are_listed_the_newest_first_and_can_be_cancelled(shell: Shell) -> None:
    shell.hold(make_held())
    shell("release", "--all", "--yes")
    shell("release", "--client", "x", "--yes")
    assert shell("cancel", "1") == 0
    assert shell("cancel", "1") == 1
    assert "it is over" in shell.err
    assert shell("releases", "--json") == 0
    second, first = map(json.loads, shell.out.splitlines())
    assert (second["number"], second["state"], second["over"]) == (2, "waiting", False)
    assert (first["number"], first["state"], first["over"], first["total"]) == (1, "cancelled", True, 1)
    assert shell("releases") == 0
    assert "cancelled" in shell.out
    assert shell("releases", "2") == 0
    assert "cancelled" not in shell.out
    assert shell("releases", "3") == 1


def test_a_preview_shows_before_and_after_and_releases_nothing(shell: Shell) -> None:
    shell.hold(make_held(payload=b'{"a":"\x1b"}', at=NOW), make_held(payload=b"2", at=NOW + 1), make_held(at=NOW + 2))
    assert shell("release", "--all", "--preview", "2") == 0
    assert '  - sensor/1/temperature  {"a":"\\x1b"}' in shell.out
    assert "2 messages shown, of which 0 would fail again; nothing is released" in shell.err
    assert shell("release", "--all", "--preview", "1", "--json") == 0
    told = json.loads(shell.out)
    assert told["passes"]
    assert told["before"] == told["after"] == {"topic": "sensor/1/temperature", "payload": '{"a":"\x1b"}'}
    assert shell("releases", "--json") == 0
    assert not shell.out


def test_a_preview_tells_what_would_fail_again(shell: Shell) -> None:
    shell.config.write_text(shell.config.read_text() + '\n[default]\naction = "hold"\n')
    shell.hold(make_held())
    assert shell("release", "--all", "--preview", "5") == 0
    assert "would fail again" in shell.out
    assert "whole payload: policy: no policy covers this topic" in shell.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["release"], "or --all"),
        (["release", "--all", "--client", "x"], "not both"),
        (["release", "--all", "01KX"], "not both"),
        (["release", "--all", "--to", "nobody"], "no such upstream"),
        (["release", "--all", "--rate", "0"], "Must be > 0"),
        (["release", "--all", "--failure-ratio", "2"], "Must be <= 1"),
        (["cancel"], "requires an argument"),
    ],
)
def test_wrong_use_exits_with_2(shell: Shell, arguments: list[str], words: str) -> None:
    shell.hold(make_held())
    assert shell(*arguments) == 2
    assert words in " ".join(shell.err.replace("│", " ").split())


def test_a_recipe_that_is_not_there_exits_with_1(shell: Shell) -> None:
    shell.hold(make_held())
    assert shell("release", "--all", "--recipe", "nowhere.toml", "--yes") == 1
    assert "nowhere.toml" in shell.err


def test_where_nothing_was_held_there_is_nothing_to_release(shell: Shell) -> None:
    assert shell("release", "--all") == 0
    assert shell("releases") == 0
    assert shell("cancel", "1") == 1
