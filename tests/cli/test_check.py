import subprocess
import sys
from pathlib import Path

import pytest
import trio

from mqttproxy.cli.check import check
from mqttproxy.cli.probe import PATIENCE
from mqttproxy.config.model import UpstreamSettings
from mqttproxy.upstream.probe import ProbeResult
from tests.waiting import PATIENCE as A_MINUTE

GOOD = """\
[proxy]
id = "gw-1"
[access]
allow_anonymous = true
"""
SCHEMA = """\
[[policies]]
name = "temperature"
topics = ["sensor/+/temperature"]
schema = "temperature@1"
"""


def upstream(name: str, more: str = "") -> str:
    return f'[[upstreams]]\nname = "{name}"\nurl = "mqtts://127.0.0.1"\n{more}\n'


def configuration(folder: Path, text: str) -> Path:
    path = folder / "proxy.toml"
    path.write_text(text)
    return path


def test_a_good_file_is_summed_up_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, GOOD + upstream("a") + upstream("b"))
    assert check(path) == 0
    assert capsys.readouterr() == (f"{path}: ok: 1 listener, 0 policies, 2 upstreams, 0 routes\n", "")


def test_all_faults_are_told_on_stderr_one_on_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, "[proxy]\nid = 5\ndrain_grce = 1\n")
    assert check(path) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines() == [
        f"{path}: proxy.id: found 5, expected a text",
        f'{path}: proxy.drain_grce: found an unknown key; did you mean "drain_grace"?',
    ]


def test_a_policy_without_its_schema_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(configuration(tmp_path, GOOD + SCHEMA)) == 1
    assert "temperature" in capsys.readouterr().err


def test_a_schema_that_is_none_is_told_with_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "schemas" / "temperature").mkdir(parents=True)
    (tmp_path / "schemas" / "temperature" / "1.json").write_text('{"type": "nonsense"}')
    assert check(configuration(tmp_path, GOOD + SCHEMA)) == 1
    assert "1.json" in capsys.readouterr().err


def test_a_policy_with_its_schema_is_good(tmp_path: Path) -> None:
    (tmp_path / "schemas" / "temperature").mkdir(parents=True)
    (tmp_path / "schemas" / "temperature" / "1.json").write_text('{"type": "object"}')
    assert check(configuration(tmp_path, GOOD + SCHEMA)) == 0


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("", "access.allow_anonymous is false and access.chain is empty, so nobody can connect"),
        (GOOD + "[[listeners]]\nname='a'\nbind='h:1'\nenabled=false", "no listener is enabled, so nobody can connect"),
        (
            GOOD + upstream("a", "insecure_skip_verify = true"),
            "INSECURE: upstream a is trusted whatever certificate it shows (insecure_skip_verify)",
        ),
    ],
)
def test_what_may_surprise_is_noted(text: str, note: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, text)
    assert check(path) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [f"{path}: note: {note}"]


def test_a_probe_tells_of_each_enabled_upstream_in_the_order_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def probe(settings: UpstreamSettings, proxy_id: str) -> ProbeResult:
        assert proxy_id == "gw-1"
        await trio.lowlevel.checkpoint()
        return ProbeResult(ok=settings.name != "b", words=f"words on {settings.name}")

    monkeypatch.setattr("mqttproxy.cli.probe.probe_upstream", probe)
    path = configuration(tmp_path, GOOD + upstream("a") + upstream("b") + upstream("c", "enabled = false"))
    assert check(path, probe=True) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == ["upstream a: words on a"]
    assert err == "upstream b: words on b\n"


def test_upstreams_that_all_answer_are_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def probe(_settings: UpstreamSettings, _proxy_id: str) -> ProbeResult:
        await trio.lowlevel.checkpoint()
        return ProbeResult(ok=True, words="good")

    monkeypatch.setattr("mqttproxy.cli.probe.probe_upstream", probe)
    assert check(configuration(tmp_path, GOOD + upstream("a")), probe=True) == 0


def test_a_probe_that_never_ends_is_given_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def probe(_settings: UpstreamSettings, _proxy_id: str) -> ProbeResult:
        await trio.sleep_forever()

    monkeypatch.setattr("mqttproxy.cli.probe.probe_upstream", probe)
    monkeypatch.setattr("mqttproxy.cli.probe.PATIENCE", 0.01)
    path = configuration(tmp_path, GOOD + upstream("a", 'connect_timeout = "1ms"'))
    assert check(path, probe=True) == 1
    assert PATIENCE > 0
    assert capsys.readouterr().err == "upstream a: no answer within 11ms\n"


def test_what_checks_for_a_proxy_that_starts_needs_no_network_and_no_command_line(tmp_path: Path) -> None:
    (tmp_path / "schemas" / "temperature").mkdir(parents=True)
    (tmp_path / "schemas" / "temperature" / "1.json").write_text('{"type": "number"}')
    path = configuration(tmp_path, GOOD + SCHEMA)
    code = f"import sys; from mqttproxy.cli.check import Path, check; check(Path({str(path)!r})); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=A_MINUTE, capture_output=True, text=True)
    modules = set(done.stdout.split())
    assert "jsonschema" in modules
    assert not {"cyclopts", "mqttproxy.upstream", "trio"} & modules
