"""How a proxy starts, or does not; and a dry run."""

import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from mqttproxy.mqtt.packets import Message
from tests.harness import running_proxy
from tests.scenarios.contracts import SCHEMA, TOPIC, route, upstream, write_proxy, write_schema
from tests.scenarios.devices import Answer, PahoDevice, Place, on
from tests.scenarios.mosquitto import running_brokers
from tests.waiting import PATIENCE


def run(command: str, file: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mqttproxy", command, str(file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_broken_configuration_ends_it_with_all_faults(tmp_path: Path, command: str) -> None:
    file = write_proxy(tmp_path, upstream("a", "http://127.0.0.1:1") + route("#", "nobody"))
    file.write_text(file.read_text().replace("allow_anonymous", "allow_anonymus"))
    done = run(command, file)
    assert (done.returncode, done.stdout) == (1, "")
    faults = done.stderr.splitlines()
    assert all(line.startswith(f"{file}: ") for line in faults)
    for place in ("access.allow_anonymus", "upstreams[0].url", "routes[0].to"):
        assert any(place in line for line in faults), done.stderr
    assert "allow_anonymous" in done.stderr  # what was meant


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_broken_schema_ends_it_with_file_and_place(tmp_path: Path, command: str) -> None:
    file = write_proxy(tmp_path)
    schema = write_schema(tmp_path, {**SCHEMA, "properties": {"celsius": {"type": "numbr"}}})
    done = run(command, file)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(schema) in done.stderr
    assert "/properties/celsius/type" in done.stderr


def test_X15_a_second_process_does_not_start_on_the_same_data(tmp_path: Path) -> None:
    with running_proxy(write_proxy(tmp_path)) as proxy:
        done = run("run", proxy.file)
        assert done.returncode == 1
        assert f"is in use by process {proxy.pid}" in done.stderr
        proxy.check_unharmed()


def test_an_address_in_use_is_told(tmp_path: Path) -> None:
    with running_proxy(write_proxy(tmp_path)) as proxy:
        other = write_proxy(tmp_path / "other")
        other.write_text(other.read_text().replace('bind = "127.0.0.1:0"', f'bind = "127.0.0.1:{proxy.port()}"', 1))
        done = run("run", other)
        assert done.returncode == 1
        assert f"127.0.0.1:{proxy.port()}" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_dry_run_forwards_everything_and_holds_nothing(tmp_path: Path) -> None:
    topic = TOPIC.format("d")
    messages = [Message(topic, payload, 1) for payload in (b'{"celsius": 1}', b'{"celsius": "x"}', b"\xff")]
    with ExitStack() as stack:
        (a,) = stack.enter_context(running_brokers(tmp_path, "a"))
        ear = stack.enter_context(closing(PahoDevice("ear", Place(a.port))))
        ear.subscribe("#", 1)
        file = write_proxy(tmp_path, upstream("a", a.url) + route("#", "a"))
        proxy = stack.enter_context(running_proxy(file, "--dry-run"))
        device = stack.enter_context(closing(PahoDevice("d", Place(proxy.port()))))
        for message in messages:
            assert device.publish(message) == Answer()
        assert on(ear, topic, 3) == messages
        assert proxy.metric("mqtt_proxy_messages_total", status="invalid") == 2
        assert proxy.metric("mqtt_proxy_messages_observed_total") == 2
        assert proxy.metric("mqtt_proxy_quarantine_messages") == 0
        assert proxy.ready["dry_run"] is True
