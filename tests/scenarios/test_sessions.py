"""Sessions of real clients over restarts of the proxy, in order and by `kill -9`, and over restarts of its broker.

Alone the proxy is the broker. With one behind it, that is home to all topics: what is published goes there first, and
comes back over the proxy's subscription.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import product
from pathlib import Path
from typing import Final, Literal

import pytest
from attrs import define

from mqttproxy.mqtt.packets import Message
from tests.conformance.device import Device as RawDevice, Server
from tests.conformance.packets import V5, V311, Kind, Prop, Will, ack, prop, publish
from tests.harness import RunningProxy, start_proxy, write_settings
from tests.scenarios.command_line import CommandLineDevice
from tests.scenarios.devices import Answer, Device, PahoDevice, Place, Version
from tests.scenarios.javascript import JavaScriptDevice, Node, running_node
from tests.scenarios.mosquitto import Mosquitto, running_brokers
from tests.waiting import wait_until

Home = Literal["alone", "broker"]
End = Literal["SIGTERM", "kill -9"]
HOMES: Final = pytest.mark.parametrize("home", ["alone", "broker"])
ENDS: Final = pytest.mark.parametrize("end", ["SIGTERM", "kill -9"])
BOTH_VERSIONS: Final = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
VERSIONS: Final[tuple[Version, ...]] = ("3.1.1", "5")
CASES: Final = tuple(product(("paho", "mosquitto", "javascript"), VERSIONS, (1, 2)))
LIMITS: Final = """
[limits]
will_grace = "1s"
"""
UPSTREAM: Final = """
[[upstreams]]
name = "broker"
url = "{url}"
version = "{version}"
backoff_first = "100ms"
backoff_ceiling = "200ms"
breaker_open = "300ms"
{more}
"""
FOR_LONG: Final = prop(Prop.SESSION_EXPIRY_INTERVAL, 300)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with running_node() as node:
        yield node


@define
class Restarted:
    """A proxy that is ended and started again, on the same folder; its port is another then."""

    file: Path
    proxy: RunningProxy
    has_broker: bool

    @property
    def port(self) -> int:
        return self.proxy.port()

    def end(self, how: End) -> None:
        if how == "kill -9":
            self.proxy.kill()
        else:
            assert self.proxy.stop() == 0, self.proxy.tail()

    def start(self) -> None:
        self.proxy = start_proxy(self.file)
        assert self.proxy.ready
        self.wait_linked()

    def wait_linked(self) -> None:
        if self.has_broker:
            self.proxy.wait_linked("broker")

    def subscriptions(self) -> float:
        return self.proxy.metric("mqtt_proxy_subscriptions")


@contextmanager
def restartable(folder: Path, home: Home, broker: Mosquitto | None = None, **more: str) -> Iterator[Restarted]:
    """Run a proxy, with a broker of its own behind it or with none."""
    with ExitStack() as stack:
        settings = LIMITS
        if home == "broker" and broker is None:
            (broker,) = stack.enter_context(running_brokers(folder, "broker"))
        if broker is not None:
            settings += UPSTREAM.format(url=broker.url, **{"version": "5", "more": "", **more})
        (folder / "proxy").mkdir()
        file = write_settings(folder / "proxy", settings)
        running = Restarted(file, start_proxy(file), broker is not None)
        try:
            assert running.proxy.ready
            running.wait_linked()
            yield running
            running.proxy.check_unharmed()
            assert running.proxy.stop() == 0, running.proxy.tail()
        finally:
            running.proxy.kill()


def client(node: Node, kind: str, version: Version, client_id: str, port: int) -> Device:
    """Connect one of the clients, with a session that is to be kept."""
    place = Place(port, version=version)
    if kind == "javascript":
        return node.device(client_id, place, clean=False)
    if kind == "paho":
        return PahoDevice(client_id, place, clean=False)
    return CommandLineDevice(client_id, place, clean=False)


@HOMES
@ENDS
def test_every_client_comes_back_to_its_session_and_gets_everything_in_order(
    tmp_path: Path, node: Node, home: Home, end: End
) -> None:
    """All of it once, with one exception: ended in the middle of an exchange with its broker, the proxy is given
    messages of that moment again. After an orderly end none at QoS 2, for it waits for the last PUBREL; after a kill
    those too, for what it had begun to receive from a broker is not on disk.

    In order among those of one QoS, for one at QoS 2 is handed out only after PUBREL, and those at QoS 1 overtake it.
    Alone, the proxy lets nothing be overtaken, and clients may: the QoS at which they receive counts. With a broker
    behind, it happens between the two as well: there the QoS at which a message was published counts.
    """
    messages = [Message(f"kept/{number % 3}", b"%d" % number, 1 + number % 2) for number in range(30)]
    names = {case: "-".join(map(str, (home, end, *case))).replace(" ", "") for case in CASES}
    with restartable(tmp_path, home) as running:
        for case, name in names.items():
            kind, version, qos = case
            with closing(client(node, kind, version, name, running.port)) as device:
                assert device.subscribe("kept/#", qos) == qos
        with closing(PahoDevice("sender", Place(running.port))) as sender:
            for message in messages:
                assert sender.publish(message) == Answer()
            running.end(end)
        running.start()
        assert running.subscriptions() == len(CASES)
        for case, name in names.items():
            kind, version, qos = case
            expected = [(message.topic, message.payload, min(message.qos, qos)) for message in messages]
            with closing(client(node, kind, version, name, running.port)) as device:
                if isinstance(device, (PahoDevice, JavaScriptDevice)):
                    assert device.sessions_found == 1, name
                else:
                    device.subscribe("kept/#", qos)  # mosquitto_sub always does
                wait_until(
                    lambda: len({(one.topic, one.payload) for one in device.received}) >= len(expected),  # noqa: B023 - called at once
                    f"all messages at {name}",
                )
                heard = [(message.topic, message.payload, message.qos) for message in device.received]
            published = {message.payload: message.qos for message in messages}
            if home == "broker":
                again = (1, 2) if end == "kill -9" else (1,)
                heard = [one for at, one in enumerate(heard) if not (published[one[1]] in again and one in heard[:at])]
            assert sorted(heard) == sorted(expected), name
            for number in (1, 2):
                together = {one for one in expected if number == (published[one[1]] if home == "broker" else one[2])}
                assert [one for one in heard if one in together] == [one for one in expected if one in together], name


@ENDS
@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_broker_got_while_the_proxy_was_away_arrives_afterwards(
    tmp_path: Path, version: Version, end: End
) -> None:
    """Because it keeps the proxy's session as the proxy keeps those of its devices."""
    with (
        running_brokers(tmp_path, "broker") as (broker,),
        restartable(tmp_path, "broker", broker, version=version) as running,
    ):
        for name in ("first", "second"):
            with closing(PahoDevice(name, Place(running.port), clean=False)) as device:
                device.subscribe(f"{name}/#", 1)
                device.subscribe("up/+", 2)
        running.end(end)
        publish_at(
            broker, *(Message(topic, b"%d" % n, 1) for n in range(10) for topic in ("first/1", "up/1", "second/1"))
        )
        running.start()
        for name in ("second", "first"):
            with closing(PahoDevice(name, Place(running.port), clean=False)) as device:
                subscribed(device, broker)
                publish_at(broker, Message("up/last", b"", 1))
                expected = sorted((f"{topic}/1", b"%d" % n) for topic in (name, "up") for n in range(10))
                assert sorted(one for one in until_last(device) if one[0] != "up/last") == expected


@BOTH_VERSIONS
def test_exchanges_go_on_at_the_step_at_which_a_kill_cut_them(tmp_path: Path, version: int) -> None:
    """Both ways: what was sent stands, with its packet identifier, and what was taken is not taken again."""
    kept = [FOR_LONG, prop(Prop.RECEIVE_MAXIMUM, 2)] if version == V5 else []
    with restartable(tmp_path, "alone") as running:
        server = Server({"tcp": running.port})
        server.stay(version, "reader").subscribe("own", options=2)
        device = server.join(version, "device", clean=False, fields=kept)
        device.subscribe("in", options=2)
        sender = server.join(version)
        for number in range(4):
            sender.publish("in", b"%d" % number, qos=2, packet_id=number + 1)
        first, second = device.messages(2)
        device.send(ack(Kind.PUBREC, first.packet_id))
        device.expect(Kind.PUBREL)
        device.send(publish(version, "own", b"mine", qos=2, packet_id=77))
        assert device.expect(Kind.PUBREC).packet_id == 77
        running.end("kill -9")
        server.close()

        running.start()
        server = Server({"tcp": running.port})
        device = server.join(version, "device", clean=False, fields=kept)
        assert device.connack.session_present
        assert device.expect(Kind.PUBREL).packet_id == first.packet_id
        again = device.message()
        assert (again.payload, again.dup, again.packet_id) == (b"1", True, second.packet_id)
        device.send(publish(version, "own", b"mine", qos=2, packet_id=77, dup=True), ack(Kind.PUBREL, 77))
        assert device.expect(Kind.PUBREC).packet_id == 77
        assert device.expect(Kind.PUBCOMP).packet_id == 77
        device.send(ack(Kind.PUBCOMP, first.packet_id))
        finish(device, again.packet_id)
        for payload in (b"2", b"3"):
            message = device.message()
            assert message.payload == payload
            finish(device, message.packet_id)
        device.leave()
        reader = server.stay(version, "reader")
        (mine,) = [packet for packet in reader.fence() if packet.kind is Kind.PUBLISH]
        assert mine.payload == b"mine"
        server.close()


def finish(device: RawDevice, packet_id: int) -> None:
    device.send(ack(Kind.PUBREC, packet_id))
    assert device.expect(Kind.PUBREL).packet_id == packet_id
    device.send(ack(Kind.PUBCOMP, packet_id))


@pytest.mark.parametrize(("home", "end"), [("alone", "SIGTERM"), ("alone", "kill -9"), ("broker", "kill -9")])
def test_retained_messages_and_wills_survive(tmp_path: Path, home: Home, end: End) -> None:
    with restartable(tmp_path, home) as running:
        with closing(PahoDevice("watcher", Place(running.port), clean=False)) as watcher:
            watcher.subscribe("will/#", 1)
        with closing(PahoDevice("sender", Place(running.port))) as sender:
            for topic, payload in (("r/kept", b"old"), ("r/kept", b"new"), ("r/gone", b"x"), ("r/gone", b"")):
                assert sender.publish(Message(topic, payload, 1, True)) == Answer()
        server = Server({"tcp": running.port})
        will_after = [prop(Prop.WILL_DELAY_INTERVAL, 2)]
        for name in ("cut", "back"):  # their connections are lost, and the delays of their wills have begun
            stay_with_will(server, name, will_after).cut()
        stay_with_will(server, "on", ())  # this one is connected to the end
        stay_with_will(server, "goodbye", will_after).leave()
        wait_until(lambda: running.proxy.metric("mqtt_active_connections", listener="tcp") == 1, "their ends")
        running.end(end)
        server.close()

        running.start()
        server = Server({"tcp": running.port})
        assert server.stay(V5, "back").connack.session_present
        with closing(PahoDevice("watcher", Place(running.port), clean=False)) as watcher:
            assert watcher.sessions_found == 1
            watcher.subscribe("r/#", 1)
            wait_until(lambda: len(watcher.received) >= 3, "the wills")
            watcher.publish(Message("will/fence", b"", 1))
            wait_until(lambda: any(one.topic == "will/fence" for one in watcher.received), "the fence")
            wills = sorted(one.topic for one in watcher.received if one.topic.startswith("will"))
            retained = [(one.topic, one.payload, one.retain) for one in watcher.received if one.topic.startswith("r/")]
        assert wills == ["will/cut", "will/fence", "will/on"]
        assert retained == [("r/kept", b"new", True)]
        server.close()


def stay_with_will(server: Server, name: str, fields: list[bytes] | tuple[()]) -> RawDevice:
    return server.stay(V5, name, will=Will(f"will/{name}", qos=1, fields=fields))


@pytest.mark.parametrize(
    ("version", "broker_keeps", "more"),
    [
        pytest.param("5", True, "", id="5-kept"),
        pytest.param("5", False, "", id="5-forgotten"),
        pytest.param("5", True, "clean_start = true", id="5-kept-and-not-wanted"),
        pytest.param("3.1.1", True, "", id="3.1.1-kept"),
        pytest.param("3.1.1", False, "", id="3.1.1-forgotten"),
    ],
)
def test_subscriptions_live_on_when_the_broker_is_restarted(
    tmp_path: Path, version: Version, more: str, *, broker_keeps: bool
) -> None:
    """With what the broker has saved, its sessions and retained messages among it, or with nothing.

    When the session at the broker is lost, messages may be lost with it: then all who are subscribed hear what is
    retained now. At QoS 2, for a broker that was killed sends again what it does not know to be acknowledged.
    """
    with (
        running_brokers(tmp_path, "broker") as (broker,),
        restartable(tmp_path, "broker", broker, version=version, more=more) as running,
        closing(PahoDevice("here", Place(running.port))) as here,
    ):
        here.subscribe("up/#", 2)
        with closing(PahoDevice("away", Place(running.port), clean=False)) as away:
            away.subscribe("up/+", 2)
        publish_at(broker, Message("up/kept", b"1", 2, True))
        wait_until(lambda: here.received, "what is retained")
        if broker_keeps:
            # What it saves in the middle of the exchange it sends again.
            wait_until(lambda: not running.proxy.metric("mqtt_proxy_journal_pending"), "PUBREC")
            publish_at(broker, Message("elsewhere", b"", 2))  # four packets later PUBCOMP is there too
            broker.save()
        broker.kill()
        wait_until(lambda: not running.proxy.metric("mqtt_broker_connection_status", broker="broker"), "the loss")
        broker.start()
        running.wait_linked()
        subscribed(here, broker)
        if not broker_keeps:
            publish_at(broker, Message("up/kept", b"1", 2, True))
        publish_at(broker, Message("up/new", b"2", 2), Message("up/last", b"3", 2))

        live = [("up/kept", b"1")] * (1 if broker_keeps and not more else 2) + [("up/new", b"2"), ("up/last", b"3")]
        assert until_last(here) == live
        with closing(PahoDevice("away", Place(running.port), clean=False)) as away:
            assert away.sessions_found == 1
            assert until_last(away) == live
        with closing(PahoDevice("late", Place(running.port))) as late:
            late.subscribe("up/#", 2)
            publish_at(broker, Message("up/last", b"3", 2))
            assert until_last(late) == [("up/kept", b"1"), ("up/last", b"3")]
            (retained, _) = late.received
            assert retained.retain


def publish_at(broker: Mosquitto, *messages: Message) -> None:
    with closing(PahoDevice("operator", Place(broker.port))) as operator:
        for message in messages:
            operator.publish(message)


def subscribed(device: PahoDevice, broker: Mosquitto) -> None:
    """Wait until what is published at the broker reaches the device."""

    def arrives() -> bool:
        publish_at(broker, Message("up/probe", b"", 0))
        return any(message.topic == "up/probe" for message in device.received)

    wait_until(arrives, "the subscription after the restart")


def until_last(device: PahoDevice) -> list[tuple[str, bytes]]:
    """Return what a device got up to the message on `up/last`, probes apart."""
    wait_until(lambda: any(message.topic == "up/last" for message in device.received), f"up/last at {device.client_id}")
    return [(message.topic, message.payload) for message in device.received if message.topic != "up/probe"]
