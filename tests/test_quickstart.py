"""The quick start as a user goes through it: the example's files, its commands, what they show."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import RunningProxy, running_proxy
from tests.waiting import PATIENCE

TOP = Path(__file__).parents[1]
EXAMPLE = TOP / "examples/quickstart"
TOPIC = "sensor/kitchen/temperature"
GOOD = '{"celsius": 21.5}'
BAD = '{"celsius": "warm"}'


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """Run the example as it stands, but for its ports."""
    folder = tmp_path_factory.mktemp("quickstart") / "copy"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data"))
    file = folder / "proxy.toml"
    text, changed = re.subn(r'"127\.0\.0\.1:(1883|9100)"', '"127.0.0.1:0"', file.read_text())
    assert changed == 2
    file.write_text(text)
    with running_proxy(file) as running:
        yield running


def publish(proxy: RunningProxy, payload: str, *options: str) -> "subprocess.CompletedProcess[str]":
    script = EXAMPLE / "publish.py"
    port = str(proxy.port("plain"))
    return run([sys.executable, str(script), TOPIC, payload, "--port", port, *options])


def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    # The package is found whether it is installed or not, as it is when tests run.
    env = {**os.environ, "PYTHONPATH": str(TOP)}
    return subprocess.run(
        command,
        cwd=TOP,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def held(proxy: RunningProxy) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "mqttproxy", "quarantine", "list", "--json", "--config", str(proxy.file)]
    return [json.loads(line) for line in run(command).stdout.splitlines()]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_good_message_is_accepted(proxy: RunningProxy, version: str) -> None:
    shown = publish(proxy, GOOD, "--mqtt", version)
    assert (shown.stdout, shown.stderr, shown.returncode) == ("PUBACK 0x00 success\n", "", 0)


def test_a_bad_message_is_refused_held_and_explained(proxy: RunningProxy) -> None:
    shown = publish(proxy, BAD, "--client-id", "five")
    assert shown.returncode == 1, shown.stderr
    document, _, answer = shown.stdout.partition("PUBACK ")
    assert answer.splitlines() == [
        "0x99 payload format invalid",
        "  reason string: policy temperature, schema temperature@1: 'warm' is not of type \"number\" at /celsius",
        "  user property: policy = temperature",
        "  user property: schema = temperature@1",
        "  user property: pointer = /celsius",
    ]
    topic, _, text = document.partition(": ")
    assert topic == "on $proxy/errors/five"
    told = json.loads(text)
    assert told["failures"][0]["pointer"] == "/celsius"
    assert told["quarantine_id"] in [record["id"] for record in held(proxy)]


def test_a_device_of_mqtt_3_1_1_gets_a_plain_acknowledgement_and_the_error_document(proxy: RunningProxy) -> None:
    shown = publish(proxy, BAD, "--client-id", "three", "--mqtt", "3.1.1")
    assert shown.returncode == 1, shown.stderr
    assert "on $proxy/errors/three: {" in shown.stdout
    assert "PUBACK 0x00 success\n" in shown.stdout


def test_the_numbers_and_the_quarantine_tell_the_same(proxy: RunningProxy) -> None:
    valid, invalid = proxy.metric("mqtt_proxy_messages_total", status="valid"), len(held(proxy))
    publish(proxy, GOOD)
    publish(proxy, BAD)
    assert proxy.metric("mqtt_proxy_messages_total", status="valid") == valid + 1
    assert proxy.metric("mqtt_proxy_messages_total", status="invalid") == invalid + 1
    assert len(held(proxy)) == invalid + 1


def test_nobody_there_is_said_in_a_sentence() -> None:
    shown = run([sys.executable, str(EXAMPLE / "publish.py"), TOPIC, GOOD, "--port", "1"])
    assert shown.stderr == "127.0.0.1:1: [Errno 111] Connection refused\n"
    assert shown.returncode == 1


def test_hints_and_readme_name_files_that_are_there_and_ports_of_the_example() -> None:
    hints, readme = (EXAMPLE / "hints.txt").read_text(), (TOP / "README.md").read_text()
    for text in (hints, readme):
        for path in re.findall(r"examples/quickstart/[\w./]+\w", text):
            assert (TOP / path).exists() or path.startswith("examples/quickstart/data/"), path
    settings = (EXAMPLE / "proxy.toml").read_text()
    for address in ("127.0.0.1:1883", "127.0.0.1:9100"):
        assert address in hints
        assert address in settings
