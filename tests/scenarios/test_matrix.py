"""Every kind of device, over every road, in both versions, at every QoS: good messages arrive, bad ones are explained.

One proxy and two brokers for the whole file. The proxy's link to broker `b` goes over TLS. What arrived is heard by an
ear at each broker itself: paho-mqtt in MQTT 5, which sees every property, the retain flag and the QoS.
"""

import json
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import asdict, frozen

from mqttproxy.cli.commands import app
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties
from tests.harness import RunningProxy, running_proxy, write_certificates, write_settings
from tests.ports import free_port
from tests.scenarios.command_line import CommandLineDevice
from tests.scenarios.devices import Answer, Device, NotLetInError, PahoDevice, Place, Transport, Version, on
from tests.scenarios.javascript import Node, running_node
from tests.scenarios.mosquitto import Mosquitto, running_brokers
from tests.waiting import wait_until

TRANSPORTS: Final[dict[str, tuple[Transport, ...]]] = {
    "paho": ("tcp", "tls", "ws", "wss"),
    "mosquitto": ("tcp", "tls"),  # Debian builds its clients without WebSocket
    "javascript": ("tcp", "tls", "ws", "wss"),
}
CASES: Final = [
    pytest.param(client, transport, version, qos, id=f"{client}-{transport}-{version}-qos{qos}")
    for client, transports in TRANSPORTS.items()
    for transport, version, qos in product(transports, ("3.1.1", "5"), (0, 1, 2))
]
SETTINGS: Final = """
[[policies]]
name = "temperature"
topics = ["sensor/+/temperature"]
schema = "temperature@1"

[[upstreams]]
name = "a"
url = "mqtt://127.0.0.1:{a}"

[[upstreams]]
name = "b"
url = "mqtts://localhost:{b}"
ca = "tls/ca.pem"

[[routes]]
topics = ["#"]
to = ["a", "b"]
ack = "all"
"""
SCHEMA: Final = {"type": "object", "required": ["celsius"], "properties": {"celsius": {"type": "number"}}}

# As no JSON library would write it, so that anything but the very bytes shows.
GOOD: Final = b'{"note":  "\\u00e4 \xc3\xa4 \xf0\x9f\x8c\xa1", "celsius":  21.50 }\r\n'
BAD: Final = '{"celsius": "warm", "note": "ä"}'.encode()
WORDS: Final = "policy temperature, schema temperature@1: 'warm' is not of type \"number\" at /celsius"
FACTS: Final = (("policy", "temperature"), ("schema", "temperature@1"), ("pointer", "/celsius"))
EXPIRY: Final = 600  # seconds


@frozen
class Scene:
    """What all cases share."""

    proxy: RunningProxy
    brokers: list[Mosquitto]
    ears: list[PahoDevice]
    node: Node

    def place(self, transport: Transport, version: Version) -> Place:
        return Place(self.proxy.port(transport), transport, self.proxy.file.parent / "tls" / "ca.pem", version)

    def device(self, client: str, client_id: str, place: Place) -> Device:
        if client == "javascript":
            return self.node.device(client_id, place)
        return PahoDevice(client_id, place) if client == "paho" else CommandLineDevice(client_id, place)

    def held(self, client_id: str) -> list[dict[str, Any]]:
        """Return what the command shows of this device's messages: here, where it need not start first."""
        command = ["quarantine", "list", "--json", "--client", client_id, "--config", str(self.proxy.file)]
        shown = StringIO()
        with redirect_stdout(shown), pytest.raises(SystemExit) as end:
            app(command)
        assert end.value.code == 0
        return [json.loads(line) for line in shown.getvalue().splitlines()]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("matrix")
    secure = free_port()
    certificates = write_certificates(folder / "tls")
    lines = ["listener {secure} 127.0.0.1", "certfile {certificate}", "keyfile {private_key}", ""]
    more = "\n".join(lines).format(secure=secure, **asdict(certificates))
    with running_brokers(folder, "a") as (a,), running_brokers(folder, "b", more=more) as (b,):
        ears = [PahoDevice("ear", Place(broker.port)) for broker in (a, b)]
        try:
            for ear in ears:
                ear.subscribe("#", 2)
            file = write_settings(folder, SETTINGS.format(a=a.port, b=secure), transports=("tcp", "tls", "ws", "wss"))
            (folder / "schemas" / "temperature").mkdir()
            (folder / "schemas" / "temperature" / "1.json").write_text(json.dumps(SCHEMA))
            with running_node() as node, running_proxy(file) as proxy:
                proxy.wait_linked("a", "b")
                yield Scene(proxy, [a, b], ears, node)
        finally:
            for ear in ears:
                ear.close()


def rich(client: str) -> Properties:
    """Return every property that a message may have; MQTT.js keeps user properties by name, the others as they come."""
    pairs = (("b", "1"), ("a", "2"), ("b", "ü")) if client != "javascript" else (("b", "1"), ("b", "ü"), ("a", "2"))
    return Properties(
        payload_format_indicator=1,
        message_expiry_interval=EXPIRY,
        content_type="application/json",
        response_topic="answers/here",
        correlation_data=b"\x00\xff" if client != "mosquitto" else b"c-1",  # an argument has no zero byte
        user_properties=pairs,
    )


def settle_expiry(message: Message) -> Message:
    """Return the message with the expiry it was sent with: brokers count the seconds that have gone by."""
    given = message.properties
    if given.message_expiry_interval is None:
        return message
    assert EXPIRY - 5 <= given.message_expiry_interval <= EXPIRY
    fields = {name: getattr(given, name) for name in given.__struct_fields__}
    fields["message_expiry_interval"] = EXPIRY
    return Message(message.topic, message.payload, message.qos, message.retain, Properties(**fields))


@pytest.mark.parametrize(("client", "transport", "version", "qos"), CASES)
def test_a_good_message_reaches_both_brokers_byte_for_byte(
    scene: Scene, client: str, transport: Transport, version: Version, qos: int
) -> None:
    name = f"good-{client}-{transport}-{version}-{qos}"
    properties = rich(client) if version == "5" else NO_PROPERTIES
    plain = Message(f"binary/{name}", bytes(range(256)), qos)  # of no policy
    judged = Message(f"sensor/{name}/temperature", GOOD, qos, True, properties)
    with closing(scene.device(client, name, scene.place(transport, version))) as device:
        assert device.publish(plain) == Answer()
        assert device.publish(judged) == Answer()
    for ear in scene.ears:
        assert on(ear, plain.topic) == [plain]
        assert [settle_expiry(message) for message in on(ear, judged.topic)] == [judged]


@pytest.mark.parametrize(("client", "transport", "version", "qos"), CASES)
def test_a_bad_message_reaches_neither_broker_is_held_and_explained(
    scene: Scene, client: str, transport: Transport, version: Version, qos: int
) -> None:
    name = f"bad-{client}-{transport}-{version}-{qos}"
    topic, errors = f"sensor/{name}/temperature", f"$proxy/errors/{name}"
    bad = Message(topic, BAD, qos, False, rich(client) if version == "5" else NO_PROPERTIES)
    with closing(scene.device(client, name, scene.place(transport, version))) as device:
        if isinstance(device, CommandLineDevice):
            answers = [device.publish(bad)]
            document = json.loads(device.ask(bad, errors))
            messages = 2
        else:
            assert device.subscribe(errors, 1) == 1
            answers = [device.publish(bad)]
            document = json.loads(on(device, errors)[0].payload)
            messages = 1
        # Order is kept for each device: what comes after it has come, so it will not come any more.
        after = Message(f"sensor/{name}/after", b"1", qos)
        device.publish(after)
    for ear in scene.ears:
        assert on(ear, after.topic) == [after]
        assert topic not in {message.topic for message in ear.received}

    assert answers == [expected_answer(client, version, qos)]
    held = scene.held(name)
    if len(held) < messages:  # at QoS 0 nothing says when it is there
        held = wait_until(lambda: found if len(found := scene.held(name)) == messages else [])
    for record in held:
        assert (record["topic"], record["qos"], record["policy"], record["schema"]) == (
            topic, qos, "temperature", "temperature@1",
        )  # fmt: skip
        assert [failure["pointer"] for failure in record["failures"]] == ["/celsius"]
        assert record["payload_size"] == len(BAD)
    assert document["quarantine_id"] in {record["id"] for record in held}
    assert (document["action"], document["reason_code"], document["reason"]) == ("held", 0x99, WORDS)
    told = ("pointer", "keyword", "message")  # whose each failure is stands with what is held
    assert document["failures"] == [{name: failure[name] for name in told} for failure in held[0]["failures"]]


def expected_answer(client: str, version: Version, qos: int) -> Answer:
    """Return what the acknowledgement must say: MQTT 3.1.1 and QoS 0 have no words for it."""
    if version == "3.1.1" or qos == 0:
        return Answer()
    if client == "mosquitto":
        return Answer(0x99, WORDS if qos == 1 else None)
    return Answer(0x99, WORDS, FACTS)


def test_the_numbers_tell_the_same_as_the_brokers(scene: Scene) -> None:
    proxy, held = scene.proxy, scene.proxy.metric("mqtt_proxy_quarantine_messages")
    received = sum(proxy.metric("mqtt_messages_received_total", qos=qos) for qos in "012")
    assert proxy.metric("mqtt_proxy_messages_total", status="invalid") == held
    for name, ear in zip("ab", scene.ears, strict=True):
        forwarded = proxy.metric("mqtt_messages_forwarded_total", destination=name)
        assert forwarded == received - held == len(ear.received)


def test_retained_messages_are_retained_at_both_brokers(scene: Scene) -> None:
    topics = {message.topic for message in scene.ears[0].received if message.retain}
    assert topics
    for broker in scene.brokers:
        with closing(PahoDevice("late", Place(broker.port))) as late:
            late.subscribe("sensor/#", 1)
            wait_until(lambda: {message.topic for message in late.received if message.retain} == topics)


def test_no_program_shows_the_certificate_to_be_unchecked(scene: Scene, tmp_path: Path) -> None:
    """A device that trusts another authority does not come in: so those above have checked ours."""
    other = write_certificates(tmp_path).ca
    place = Place(scene.proxy.port("tls"), "tls", other)
    with pytest.raises(NotLetInError, match="certificate verify failed"):
        CommandLineDevice("distrustful", place).publish(Message("t", b"1", 1))
