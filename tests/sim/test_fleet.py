"""mqttproxy/sim/fleet.py and device.py, against a proxy that runs; and what is told of it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqttproxy.cli.commands import app
from tests.harness import RunningProxy, running_proxy, write_settings

SCHEMA = {
    "type": "object",
    "required": ["celsius"],
    "properties": {"celsius": {"type": "number", "minimum": -40, "maximum": 125}},
    "additionalProperties": False,
}
POLICY = """
[[policies]]
name = "temperature"
topics = ["sensor/+/temperature"]
schema = "temperature@1"
on_failure = ["refuse"]
"""
TOPIC = "sensor/{device}/temperature"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[RunningProxy]:
    file = write_settings(tmp_path, POLICY, transports=("tcp", "tls"))
    folder = tmp_path / "schemas" / "temperature"
    folder.mkdir()
    (folder / "1.json").write_text(json.dumps(SCHEMA))
    with running_proxy(file) as running:
        yield running


def sim(proxy: RunningProxy, capsys: pytest.CaptureFixture[str], *arguments: str, listener: str = "tcp") -> Any:
    """Run it, and return what it tells programs, and its exit code."""
    schema = proxy.file.parent / "schemas" / "temperature" / "1.json"
    command = ["sim", proxy.url(listener), "--schema", str(schema), "--topic", TOPIC, "--json", *arguments]
    with pytest.raises(SystemExit) as end:
        app(command)
    out, err = capsys.readouterr()
    return (json.loads(out) if out else err), end.value.code


def test_M24_good_is_acknowledged_bad_is_refused_and_all_is_counted(
    proxy: RunningProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    told, code = sim(
        proxy, capsys, "--devices", "5", "--rate", "200", "--messages", "300", "--bad", "0.3", "--seed", "1"
    )
    assert code == 0
    good, bad = told["good"], told["bad"]
    assert good["sent"] + bad["sent"] == 300
    assert 50 < bad["sent"] < 150
    assert (good["acknowledged"], good["refused"], good["unanswered"]) == (good["sent"], {}, 0)
    assert (bad["acknowledged"], bad["refused"]) == (0, {"payload_format_invalid": bad["sent"]})
    assert sum(told["faults"].values()) == bad["sent"]
    assert told["told"] == bad["sent"]
    assert (told["devices_connected"], told["failed_connects"], told["lost"]) == (5, {}, {})
    assert told["seconds_median"] > 0
    assert proxy.metric("mqtt_proxy_messages_refused_total", reason="payload_format_invalid") == bad["sent"]


@pytest.mark.parametrize("qos", ["0", "2"])
def test_M24_in_3_1_1_only_the_error_topic_tells(
    proxy: RunningProxy, capsys: pytest.CaptureFixture[str], qos: str
) -> None:
    how = ("--devices", "2", "--rate", "100", "--messages", "60", "--bad", "0.5", "--version", "3.1.1", "--qos", qos)
    told, code = sim(proxy, capsys, *how, "--seed", "2")
    assert code == 0
    assert told["bad"]["refused"] == {}
    assert told["good"]["acknowledged"] == (told["good"]["sent"] if qos == "2" else 0)
    if qos == "2":
        assert told["told"] == told["bad"]["sent"] > 0


def test_M24_over_tls(proxy: RunningProxy, capsys: pytest.CaptureFixture[str]) -> None:
    ca = proxy.file.parent / "tls" / "ca.pem"
    how = ("--devices", "2", "--rate", "100", "--messages", "20", "--bad", "0")
    told, code = sim(proxy, capsys, *how, "--ca", str(ca), listener="tls")
    assert (code, told["good"]["acknowledged"], told["bad"]["sent"]) == (0, 20, 0)
    told, code = sim(proxy, capsys, *how, "--duration", "300ms", listener="tls")  # of a CA that nobody knows
    assert (code, told["devices_connected"]) == (1, 0)
    assert any("unable to get local issuer certificate" in words for words in told["failed_connects"])


def test_M21_M24_devices_with_certificates_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["init-ca"],
        ["issue", "proxy", "--kind", "server", "--host", "127.0.0.1"],
        ["issue", "a"],
        ["issue", "b"],
    ):
        with pytest.raises(SystemExit):
            app(["cert", *arguments, "--directory", str(tmp_path / "pki")])
    capsys.readouterr()
    listener = """
[[listeners]]
name = "devices"
transport = "tls"
bind = "127.0.0.1:0"
certificate = "pki/servers/proxy/certificate.pem"
private_key = "pki/servers/proxy/private_key.pem"
client_ca = "pki/ca.pem"
client_certificate = "required"
"""
    file = write_settings(tmp_path, listener)
    (tmp_path / "schemas" / "temperature").mkdir()
    (tmp_path / "schemas" / "temperature" / "1.json").write_text(json.dumps(SCHEMA))
    with running_proxy(file) as proxy:
        how = ("--rate", "100", "--messages", "20", "--bad", "0", "--certificates", str(tmp_path / "pki" / "devices"))
        told, code = sim(proxy, capsys, *how, listener="devices")
        assert (code, told["devices"], told["devices_connected"], told["good"]["acknowledged"]) == (0, 2, 2, 20)


def test_it_ends_in_order_when_it_is_interrupted(proxy: RunningProxy) -> None:
    schema = proxy.file.parent / "schemas" / "temperature" / "1.json"
    command = [sys.executable, "-m", "mqttproxy", "sim", proxy.url(), "--schema", str(schema), "--topic", TOPIC]
    running = subprocess.Popen(
        [*command, "--devices", "2", "--rate", "50"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        for line in running.stderr or ():
            if b"2 of 2 devices" in line:
                break
        running.terminate()
        out, _ = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 0
    assert out.startswith(b"2 of 2 devices connected; ")
    assert b" refused (payload_format_invalid " in out or b"bad: 0 sent" in out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--bad", "2"), "--bad must be 0 to 1"),
        (("--rate", "0"), "--rate must be more than 0"),
        (("--devices", "0"), "--devices must be 1 to"),
        (("--client-id", "x"), "--client-id must have {number} in it"),
        (("--certificate", "x"), "belong together"),
        (("--certificates", "nowhere"), "no folder with certificate.pem and private_key.pem"),
        (("--password-file", "nowhere"), "nowhere: no such file"),
        (("--topic", "a/#"), "topic"),
    ],
)
def test_what_is_used_wrongly_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], words: str
) -> None:
    schema = tmp_path / "s.json"
    schema.write_text("{}")
    with pytest.raises(SystemExit) as end:
        app(
            [
                "sim",
                "mqtt://127.0.0.1:1",
                "--schema",
                str(schema),
                *(() if "--topic" in more else ("--topic", "t")),
                *more,
            ]
        )
    assert end.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"), [("{", "not JSON"), ('{"type": 5}', "5"), ("false", "no payload was found")]
)
def test_a_schema_that_cannot_be_used_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    schema = tmp_path / "s.json"
    schema.write_text(text)
    with pytest.raises(SystemExit) as end:
        app(["sim", "mqtt://127.0.0.1:1", "--schema", str(schema), "--topic", "t"])
    assert end.value.code == 1
    assert words in capsys.readouterr().err
