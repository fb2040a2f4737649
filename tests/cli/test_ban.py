"""`mqttproxy ban` and `mqttproxy refused`: words and exit codes."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from mqttproxy.cli.commands import app
from tests.steering.proxies import open_proxy, text, write
from tests.steering.test_banning import BANNED_311, answer_to


async def call(*arguments: str) -> int:
    def run(given: Sequence[str]) -> int:
        with pytest.raises(SystemExit) as end:
            app([*given])
        assert isinstance(end.value.code, int)
        return end.value.code

    return await trio.to_thread.run_sync(run, arguments)


async def test_add_list_refused_and_remove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path, text()))
    async with open_proxy(tmp_path) as proxy:
        assert await call("ban", "list", path) == 0
        assert await call("ban", "add", path, "--client", "d", "--reason", "it \x1b floods", "--for", "1h") == 0
        first, *lines = capsys.readouterr().out.splitlines()
        assert first == "nobody"
        assert lines[0].startswith("banned: client d, until 20")
        assert r": it \x1b floods (" in lines[0]
        assert lines[1] == "  connections ended: 0"
        assert await answer_to(proxy) == BANNED_311
        assert await call("refused", path) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert "d, from 127.0.0.1 by tcp: banned: ban of client d: banned: it \\u001b floods (1 times)" in line
        assert await call("ban", "list", path, "--json") == 0
        (told,) = json.loads(capsys.readouterr().out)["bans"]
        assert told["until"] == pytest.approx(told["since"] + 3600)
        assert await call("ban", "remove", path, "--client", "d") == 0
        assert capsys.readouterr().out == "may come again: client d\n"
        assert await call("ban", "remove", path, "--client", "d") == 1
        assert capsys.readouterr().err == "client 'd' is not banned\n"


@pytest.mark.parametrize("who", [(), ("--client", "a", "--address", "::1")])
async def test_it_must_be_said_who(who: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path, text()))
    assert await call("ban", "add", path, "--reason", "r", *who) == 2
    assert capsys.readouterr().err == "say who: exactly one of --client, --username, --address\n"


async def test_without_a_proxy_that_runs_nothing_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path, text()))
    assert await call("ban", "list", path) == 1
    assert "no proxy answers" in capsys.readouterr().err
