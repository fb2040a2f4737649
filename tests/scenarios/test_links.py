"""The proxy's own links: every road and both versions to one real broker, and `check --probe` before them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Final

import pytest
from attrs import asdict, frozen

from mqttproxy.mqtt.packets import Message
from tests.harness import RunningProxy, running_proxy, write_certificates, write_settings
from tests.ports import free_port
from tests.scenarios.devices import Answer, PahoDevice, Place, on
from tests.scenarios.mosquitto import Mosquitto, running_brokers
from tests.waiting import PATIENCE

# The second listener shows a certificate and wants one of the same authority, the third is a WebSocket.
MORE: Final = """
listener {secure} 127.0.0.1
cafile {ca}
certfile {certificate}
keyfile {private_key}
require_certificate true
listener {web} 127.0.0.1
protocol websockets
"""
UPSTREAM: Final = """
[[upstreams]]
name = "{name}"
url = "{url}"
version = "{version}"
{more}

[[routes]]
topics = ["{name}/#"]
to = ["{name}"]
"""
CERTIFICATES: Final = 'ca = "tls/ca.pem"\ncertificate = "tls/server.pem"\nprivate_key = "tls/server.key"'
LINKS: Final = [f"{road}-{version[0]}" for road, version in product(("mqtt", "mqtts", "ws"), ("5", "3.1.1"))]

# Devices of one name come and go all the time here.
NO_BANS: Final = """
[limits]
flapping_connects = 0
"""


@frozen
class Linked:
    """One broker, and a proxy with a link over each road."""

    broker: Mosquitto
    proxy: RunningProxy


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linked]:
    folder = tmp_path_factory.mktemp("links")
    secure, web = free_port(), free_port()
    more = MORE.format(secure=secure, web=web, **asdict(write_certificates(folder / "tls")))
    with running_brokers(folder, "broker", more=more) as (broker,):
        urls = {"mqtt": broker.url, "mqtts": f"mqtts://localhost:{secure}", "ws": f"ws://127.0.0.1:{web}/mqtt"}
        upstreams = [
            UPSTREAM.format(
                name=f"{road}-{version[0]}", url=url, version=version, more=CERTIFICATES if road == "mqtts" else ""
            )
            for (road, url), version in product(urls.items(), ("5", "3.1.1"))
        ]
        with running_proxy(write_settings(folder, NO_BANS + "".join(upstreams))) as proxy:
            yield Linked(broker, proxy)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_goes_over_every_kind_of_link_and_comes_back(linked: Linked, link: str, qos: int) -> None:
    linked.proxy.wait_linked(link)
    message = Message(f"{link}/up/{qos}", bytes(range(256)) * 300, qos)
    answer = Message(f"{link}/down/{qos}", b"back", qos)
    with (
        closing(PahoDevice("ear", Place(linked.broker.port))) as ear,
        closing(PahoDevice("device", Place(linked.proxy.port()))) as device,
    ):
        assert ear.subscribe(message.topic, 2) == 2
        assert device.subscribe(answer.topic, 2) == 2
        assert device.publish(message) == Answer()
        assert on(ear, message.topic) == [message]
        ear.publish(answer)
        assert on(device, answer.topic) == [answer]


def test_the_probe_tells_which_brokers_let_us_in(linked: Linked) -> None:
    done = probe(linked.proxy.file)
    assert done.returncode == 0, done.stderr
    assert [line.split(" accepted")[0] for line in done.stdout.splitlines()[1:]] == [
        f"upstream {link}:" for link in LINKS
    ]


def test_the_probe_tells_which_broker_is_not_there(linked: Linked, tmp_path: Path) -> None:
    there = UPSTREAM.format(name="there", url=linked.broker.url, version="5", more="")
    gone = UPSTREAM.format(name="gone", url=f"mqtt://127.0.0.1:{free_port()}", version="5", more="")
    done = probe(write_settings(tmp_path, there + gone))
    assert done.returncode == 1
    assert "upstream there: accepted" in done.stdout
    assert done.stderr.startswith("upstream gone: ")
    assert "refused" in done.stderr


def probe(file: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mqttproxy", "check", "--probe", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
