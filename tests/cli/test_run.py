from pathlib import Path

import pytest
import trio

from mqttproxy.cli.run import run
from mqttproxy.config.errors import ConfigError, Fault

FILE = Path("proxy.toml")


def test_run_hands_over_to_the_proxy_and_returns_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    async def run_proxy(path: Path, dry_run: bool) -> int:
        await trio.lowlevel.checkpoint()
        seen.append((path, dry_run))
        return 7

    monkeypatch.setattr("mqttproxy.cli.run.run_proxy", run_proxy)
    assert run(FILE) == 7
    assert run(FILE, dry_run=True) == 7
    assert seen == [(FILE, False), (FILE, True)]


def test_a_faulty_configuration_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run_proxy(path: Path, dry_run: bool) -> int:
        await trio.lowlevel.checkpoint()
        raise ConfigError([Fault(str(path), "proxy.id", f"{dry_run}")])

    monkeypatch.setattr("mqttproxy.cli.run.run_proxy", run_proxy)
    assert run(FILE) == 1
    assert capsys.readouterr() == ("", "proxy.toml: proxy.id: found False\n")
