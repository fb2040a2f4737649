"""Two brokers get one message, each its own, over a reload; what cannot be made for one goes into the quarantine."""

from contextlib import closing
from pathlib import Path

import orjson

from mqttproxy.mqtt.packets import Message
from tests.harness import running_proxy, write_settings
from tests.scenarios.devices import Answer, PahoDevice, Place, on
from tests.scenarios.mosquitto import running_brokers

SETTINGS = """
[masking]
key = "a key of sixteen"

[[upstreams]]
name = "cloud"
url = "mqtt://127.0.0.1:{cloud}"

[[upstreams.transforms]]
topics = ["plant/{{line}}/temperature"]
steps = [
  {{ op = "rename", from = "/temp_f", to = "/temperature" }},
  {{ op = "unit", path = "/temperature", from = "F", to = "C", digits = 1 }},
  {{ op = "copy_topic", from = "{{line}}", to = "/line" }},
  {{ op = "mask", path = "/operator", how = "{how}", if_missing = "skip" }},
  {{ op = "set_topic", to = "acme/{{line}}" }},
]

[[upstreams]]
name = "plant"
url = "mqtt://127.0.0.1:{plant}"

[[routes]]
topics = ["#"]
to = ["cloud", "plant"]
ack = "all"
"""
TOPIC = "plant/7/temperature"
GOOD = b'{"temp_f": 98.6, "operator": "Bob"}'


def test_each_broker_gets_its_own_and_a_reload_changes_what_is_sent(tmp_path: Path) -> None:
    with running_brokers(tmp_path, "cloud", "plant") as (cloud, plant):
        file = write_settings(tmp_path, SETTINGS.format(cloud=cloud.port, plant=plant.port, how="hash"))
        with (
            running_proxy(file) as proxy,
            closing(PahoDevice("device", Place(proxy.port()))) as device,
            closing(PahoDevice("there", Place(cloud.port))) as there,
            closing(PahoDevice("here", Place(plant.port))) as here,
        ):
            proxy.wait_linked("cloud", "plant")
            there.subscribe("#", 1)
            here.subscribe("#", 1)
            assert device.publish(Message(TOPIC, GOOD, 1)) == Answer()
            (came,) = on(there, "acme/7")
            document = orjson.loads(came.payload)
            assert len(document.pop("operator")) == 16
            assert document == {"temperature": 37.0, "line": "7"}
            assert on(here, TOPIC) == [Message(TOPIC, GOOD, 1)]

            # One that cannot be transformed is refused there, with the place, and nothing of it is sent.
            refused = device.publish(Message(TOPIC, b'{"temp": 1}', 1))
            assert refused.reason == 0x99

            write_settings(tmp_path, SETTINGS.format(cloud=cloud.port, plant=plant.port, how="drop"))
            proxy.reload()
            assert device.publish(Message(TOPIC, GOOD, 1)) == Answer()
            assert [orjson.loads(message.payload).get("operator") for message in on(there, "acme/7", 2)][-1] is None
            assert len(on(there, "acme/7", 2)) == 2
            assert len(on(here, TOPIC, 3)) == 3
