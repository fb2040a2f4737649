"""What is recorded of real traffic: found again by the identifier that the broker got."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from mqttproxy.mqtt.packets import Message
from tests.harness import running_proxy
from tests.scenarios.contracts import POLICY, TOPIC, upstream, write_proxy, write_schema
from tests.scenarios.devices import PahoDevice, Place, on
from tests.scenarios.mosquitto import running_brokers
from tests.waiting import wait_until

RECORDER = "[recorder]\nenabled = true\nkeep_free = 0\n"
COLD = {"type": "object", "properties": {"celsius": {"type": "number", "maximum": 30}}}


def ask(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run([sys.executable, "-m", "mqttproxy", *arguments], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_what_was_carried_is_explained_by_the_identifier_that_the_broker_got(tmp_path: Path) -> None:
    with running_brokers(tmp_path, "a") as (broker,):
        file = write_proxy(tmp_path, upstream("a", broker.url) + RECORDER)
        explain = ["explain", "--config", str(file), "--json"]
        with running_proxy(file) as proxy:
            proxy.wait_linked("a")
            with (
                closing(PahoDevice("reader", Place(broker.port))) as reader,
                closing(PahoDevice("d", Place(proxy.port()))) as device,
            ):
                topic = TOPIC.format("d")
                reader.subscribe("#", 1)
                for celsius in (20, 40):
                    device.publish(Message(topic, b'{"celsius": %d}' % celsius, 1))
                device.publish(Message(topic, b'{"celsius": "warm"}', 1))
                on(reader, topic, 2)
                sent = [dict(message.properties.user_properties) for message in reader.received]
            wait_until(lambda: proxy.metric("mqtt_proxy_recorder_recorded_total") == 3, "three are recorded")
            names = [properties["mp-id"] for properties in sent]
            code, document = ask(*explain, names[1])
            assert (code, document["verdict"]) == (0, "forward")
            assert document["then"]["action"] == "forwarded"
            assert document["then"]["destinations"] == ["a"]
            assert document["client_id"] == "d"
            assert proxy.metric("mqtt_proxy_drift_messages", policy="temperature") == 3
            proxy.kill()
        assert ask(*explain, names[0])[1]["then"]["id"] == names[0]
        write_schema(tmp_path, COLD, version=2)
        stricter = tmp_path / "new.toml"
        stricter.write_text(POLICY.replace("@1", "@2"))
        code, table = ask("backtest", "--config", str(file), "--policy", str(stricter), "--json")
        assert code == 1
        assert {cell: table[cell] for cell in ("both_pass", "would_break", "would_heal", "both_fail")} == {
            "both_pass": 1, "would_break": 1, "would_heal": 0, "both_fail": 1,
        }  # fmt: skip
        assert table["samples"]["would_break"][0]["id"] == names[1]
