"""A broker that calls topics otherwise: devices there and devices here talk, each under their own names."""

from contextlib import closing
from pathlib import Path

from mqttproxy.mqtt.packets import Message, Properties
from tests.harness import running_proxy, write_settings
from tests.scenarios.devices import Answer, PahoDevice, Place, on
from tests.scenarios.mosquitto import running_brokers
from tests.waiting import wait_until

UPSTREAM = """
[[upstreams]]
name = "broker"
url = "mqtt://127.0.0.1:{port}"

[[upstreams.topics]]
local = "plant/{{line}}/#"
remote = "acme/{site}/{{line}}/in/#"

[[routes]]
topics = ["#"]
to = ["broker"]
ack = "all"
"""


def test_a_question_and_its_answer_cross_under_other_names_and_a_reload_changes_them(tmp_path: Path) -> None:
    with running_brokers(tmp_path, "broker") as (broker,):
        file = write_settings(tmp_path, UPSTREAM.format(port=broker.port, site="eu"))
        with (
            running_proxy(file) as proxy,
            closing(PahoDevice("device", Place(proxy.port()))) as device,
            closing(PahoDevice("responder", Place(broker.port))) as responder,
        ):
            proxy.wait_linked("broker")
            responder.subscribe("#", 1)
            assert device.subscribe("plant/7/answers", 1) == 1
            question = Properties(response_topic="plant/7/answers", correlation_data=b"1")
            assert device.publish(Message("plant/7/questions", b"?", 1, False, question)) == Answer()
            (asked,) = on(responder, "acme/eu/7/in/questions")
            assert asked.properties.response_topic == "acme/eu/7/in/answers"
            responder.publish(Message(asked.properties.response_topic, b"!", 1))
            assert on(device, "plant/7/answers") == [Message("plant/7/answers", b"!", 1)]

            # What is called as the broker calls something else has no place there.
            refused = device.publish(Message("acme/eu/7/in/x", b"", 1))
            assert refused.reason == 0x90
            responder.publish(Message("plant/7/answers", b"astray", 1))

            write_settings(tmp_path, UPSTREAM.format(port=broker.port, site="us"))
            proxy.reload()
            proxy.wait_linked("broker")
            device.publish(Message("plant/7/questions", b"?", 1))
            assert on(responder, "acme/us/7/in/questions")

            def answered() -> bool:
                responder.publish(Message("acme/us/7/in/answers", b"again", 1))
                return any(message.payload == b"again" for message in device.received)

            wait_until(answered, "an answer under the new name")
            responder.publish(Message("acme/eu/7/in/answers", b"old name", 1))
            responder.publish(Message("acme/us/7/in/answers", b"last", 1))
            wait_until(lambda: device.received[-1].payload == b"last", "the last answer")
            assert {message.payload for message in device.received} == {b"!", b"again", b"last"}
            assert {message.topic for message in device.received} == {"plant/7/answers"}
