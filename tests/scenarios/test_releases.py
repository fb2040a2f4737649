"""Releases by the proxy as a process: ordered by the command, killed by the system, each message released once.

Every point at which a kill can come is gone through in tests/test_release.py.
"""

import subprocess
import sys
from pathlib import Path

from mqttproxy.quarantine.releases import AT_WORK
from tests.harness import running_proxy, write_settings
from tests.plant import Plant, held_ids
from tests.quarantine.examples import make_held
from tests.waiting import PATIENCE, wait_until

MESSAGES = 300
KILLS = 5
SETTINGS = """
[[upstreams]]
name = "a"
url = "mqtt://127.0.0.1:1"

[[upstreams]]
name = "b"
url = "mqtt://127.0.0.1:1"

[[routes]]
topics = ["n/#"]
to = ["a"]
home = "local"
"""


def order(file: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "mqttproxy", "quarantine", "release", *arguments, "--yes", "--config", str(file)]
    subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True)


def test_killed_again_and_again_a_release_ends_with_each_message_released_once(tmp_path: Path) -> None:
    file = write_settings(tmp_path, SETTINGS)
    plant = Plant(tmp_path)
    plant.subscribe("s", "n/#")
    held = [make_held(topic=f"n/{number}", payload=b"%d" % number) for number in range(MESSAGES)]
    plant.hold(*held)
    order(file, "--topic", "n/+", "--rate", "60")
    kills = 0
    while kills < KILLS:
        with running_proxy(file) as proxy:
            before = plant.release().released
            wait_until(lambda: plant.release().released > before, "progress")  # noqa: B023 # now
            proxy.kill()
        if plant.release().state not in AT_WORK:  # it was seen late, on a busy machine
            break
        kills += 1
    assert kills >= 2
    with running_proxy(file) as proxy:
        wait_until(lambda: plant.release().state == "done", "the end")
        assert proxy.metric("mqtt_proxy_quarantine_released_total") < MESSAGES
    assert plant.release().released == MESSAGES
    ids = [message.id for message in held]
    assert held_ids(plant.spooled("a")) == ids
    assert held_ids(plant.queued()) == ids
    assert plant.table("SELECT * FROM releases") == []
