"""The quarantine of a real proxy under a flood: what others had held stays, and the spool goes on without it."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from mqttproxy.mqtt.packets import Message
from tests.harness import running_proxy
from tests.scenarios.contracts import TOPIC, route, upstream, write_proxy
from tests.scenarios.devices import PahoDevice, Place
from tests.scenarios.mosquitto import program
from tests.waiting import PATIENCE, wait_until

BAD = b"no JSON"
GOOD = b'{"celsius": 1}'


def topics_held(file: Path) -> list[str]:
    command = [sys.executable, "-m", "mqttproxy", "quarantine", "export", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    return [json.loads(line)["topic"] for line in done.stdout.splitlines()]


def flood(port: int, client_id: str, count: int) -> None:
    """Publish nothing but invalid messages from an address of its own."""
    where = ["-h", "127.0.0.1", "-p", str(port), "-A", "127.0.0.2", "-V", "5", "-q", "1", "-i", client_id]
    command = [program("mosquitto_pub"), *where, "-l", "-t", TOPIC.format("flood")]
    subprocess.run(command, input=(BAD + b"\n") * count, timeout=PATIENCE, check=True, capture_output=True)


def test_G10_a_flood_of_invalid_messages_washes_out_its_own_whatever_client_it_says_it_is(tmp_path: Path) -> None:
    file = write_proxy(tmp_path / "proxy", "[quarantine]\nmax_messages = 100\nclient_share = 0.1\n")
    with running_proxy(file) as proxy:
        with closing(PahoDevice("ada", Place(proxy.port()))) as ada:
            for number in range(5):
                ada.publish(Message(TOPIC.format(number), BAD, 1))
        for number in range(6):
            flood(proxy.port(), f"evil-{number}", 50)
        wait_until(lambda: proxy.metric("mqtt_proxy_quarantine_expired_total", bound="quota") == 290, "the quota")
        assert proxy.metric("mqtt_proxy_quarantine_messages") == 15
        assert proxy.metric("mqtt_proxy_quarantine_expired_total", bound="count") == 0
        told = proxy.log("quarantine_quota")
        assert {line["owner"] for line in told} == {"address:127.0.0.2"}
        assert len(told) < 3
    found = topics_held(file)
    assert sorted(set(found)) == sorted([*(TOPIC.format(number) for number in range(5)), TOPIC.format("flood")])
    assert found.count(TOPIC.format("flood")) == 10


def test_G10_where_the_disk_has_no_room_for_the_quarantine_the_spool_goes_on(tmp_path: Path) -> None:
    nowhere = upstream("a", "mqtt://127.0.0.1:1") + route("#", "a")
    file = write_proxy(tmp_path / "proxy", nowhere + '[quarantine]\nkeep_free = "1024TiB"\n')
    with (
        running_proxy(file) as proxy,
        closing(PahoDevice("evil", Place(proxy.port()))) as evil,
        closing(PahoDevice("ada", Place(proxy.port()))) as ada,
    ):
        waiting = evil.send(Message(TOPIC.format(1), BAD, 1))
        wait_until(lambda: proxy.metric("mqtt_proxy_quarantine_trouble") == 1, "the trouble")
        wait_until(lambda: proxy.get("/ready")[0] == 503, "/ready to say no")
        assert b"quarantine.keep_free" in proxy.get("/ready")[1]
        for _ in range(20):
            assert ada.publish(Message(TOPIC.format(2), GOOD, 1)).reason == 0
        assert waiting not in evil.answers
        file.write_text(file.read_text().replace('"1024TiB"', "0"))
        proxy.reload()
        wait_until(lambda: waiting in evil.answers, "the acknowledgement of what is held now")
    assert topics_held(file) == [TOPIC.format(1)]
