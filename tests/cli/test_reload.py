"""`mqttproxy reload`, `plan`, `apply`, `confirm` and `rollback` against a proxy that runs: words and exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from mqttproxy.cli.apply import apply
from mqttproxy.cli.commands import app
from mqttproxy.cli.plan import plan
from mqttproxy.cli.reload import confirm, reload, rollback
from mqttproxy.cli.running import data_dir_of
from tests.steering.proxies import LISTENER, open_proxy, text, write


async def call(command: Callable[[], int]) -> int:
    return await trio.to_thread.run_sync(command)


async def test_reload_tells_the_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, text())
    async with open_proxy(tmp_path):
        more = LISTENER.format("new", 0) + "[limits]\nconnections = 5\n"
        write(tmp_path, text(more))
        assert await call(lambda: reload(path)) == 0
        assert capsys.readouterr().out.splitlines() == [
            "reloaded: generation 2 is in force",
            "  listeners added: new",
            "  waits for a restart: limits.connections",
        ]
        write(tmp_path, text() + "[limits]\nconnections = 0\n")
        assert await call(lambda: reload(path)) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        first, second = shown.err.splitlines()
        assert first.startswith(f"{path}: limits.connections: found 0")
        assert second == "nothing has changed: generation 2 stays in force"


@pytest.mark.parametrize("broken", ['[proxy\ndata_dir = "data"\n', '[proxy]\ndata_dir = "data"\n[', "\xff[proxy]"])
async def test_a_file_that_is_no_toml_is_refused_by_the_proxy_itself(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, text())
    async with open_proxy(tmp_path) as proxy:
        path.write_bytes(broken.encode("latin-1"))
        assert await call(lambda: reload(path, json=True)) == 1
        assert proxy.metrics.reload_failures == 1
        assert json.loads(capsys.readouterr().out)["done"] is False


async def test_apply_for_a_while_then_confirm_or_roll_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, new = write(tmp_path, text()), tmp_path / "new.toml"
    new.write_text(text(anonymous=False))
    async with open_proxy(tmp_path) as proxy:
        assert await call(lambda: apply(new, config=path, confirm_within=300.0)) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == "applied: generation 2 is in force"
        assert second.startswith("  on trial for ")
        assert await call(lambda: rollback(path)) == 0
        assert capsys.readouterr().out == "rolled back: generation 3 is in force\n"
        assert await call(lambda: confirm(path)) == 1
        assert "nothing on trial" in capsys.readouterr().err
        assert await call(lambda: apply(new, config=path, confirm_within=300.0)) == 0
        assert await call(lambda: confirm(path)) == 0
        assert path.read_text() == new.read_text()
        assert proxy.metrics.generation == 4


async def test_plan_tells_what_loosens_first_and_exits_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, new = write(tmp_path, text(anonymous=False)), tmp_path / "new.toml"
    async with open_proxy(tmp_path):
        new.write_text(text("[limits]\nconnections = 5\n"))
        assert await call(lambda: plan(new, config=path)) == 4
        assert capsys.readouterr().out.splitlines() == [
            "compared with generation 1, in force",
            "loosens:",
            "  access.allow_anonymous: false -> true: loosens, devices may connect without credentials",
            "tightens:",
            "  limits.connections: 100000 -> 5: tightens, a limit is lowered; waits for a restart",
        ]
        new.write_text(text("[limits]\nconnections = 5\n", anonymous=False))
        assert await call(lambda: plan(new, config=path)) == 3
        assert await call(lambda: plan(path, config=path)) == 0
        assert "nothing changes" in capsys.readouterr().out
        new.write_text("[")
        assert await call(lambda: plan(new, config=path)) == 1
        assert capsys.readouterr().err.startswith(f"{new}: line 1")


def test_plan_without_a_proxy_compares_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, new = write(tmp_path, text(anonymous=False)), tmp_path / "new.toml"
    new.write_text(text())
    assert plan(new, config=path, json=True) == 4
    assert json.loads(capsys.readouterr().out)["difference"]["loosens"] == 1
    assert plan(new, config=path) == 4
    assert capsys.readouterr().out.splitlines()[-1] == "no proxy runs on it, so nobody is connected"
    new.write_text(text('[[policies]]\nname = "p"\ntopics = ["#"]\nschema = "none@1"\n'))
    assert plan(new, config=path) == 1
    assert "none" in capsys.readouterr().err


@pytest.mark.parametrize("command", [reload, confirm, rollback, lambda file: apply(file, config=file)])
def test_without_a_proxy_the_others_say_so(
    command: Callable[[Path], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, text())
    assert command(path) == 1
    assert f"{path}: no proxy answers in {tmp_path}/data: no such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["soon", "0s", "-5m"])
def test_a_time_that_is_none_is_a_wrong_use(value: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["apply", str(tmp_path / "new.toml"), "--confirm-within", value])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("content", "folder"),
    [
        ('[proxy]\ndata_dir = "d"\n', "d"),
        ("", "data"),
        ('[proxy]\ndata_dir = "d"\n[', "d"),
        ("[proxy\n  data_dir='d'  # here\n", "d"),
        ("proxy = 5", "data"),
        ("[proxy]\ndata_dir = 5", "data"),
        ('proxy.data_dir = "/var/d"\n[', "/var/d"),
    ],
)
def test_the_data_folder_is_found_however_broken_the_file_is(content: str, folder: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    assert data_dir_of(path) == tmp_path / folder
    assert data_dir_of(tmp_path / "none.toml") == tmp_path / "data"
