"""H1 to H10: what hostile or odd brokers send to us as their client, over a real link to a broker that does it.

Whatever they do: the link ends or goes on as the row says, nothing that was offered is lost, nothing is raised, and
once the broker behaves all is carried.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock

from mqttproxy.config.model import Address, ListenerSettings
from mqttproxy.mqtt.encode import encode
from mqttproxy.mqtt.packets import Message, Properties, ProtocolVersion, Publish, UnsubAck
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerLimits
from mqttproxy.transport.listen import Listener, listen
from mqttproxy.transport.stream import TransportError
from mqttproxy.upstream.breaker import BreakerState
from mqttproxy.upstream.guard import LOOP, admit
from mqttproxy.upstream.supervisor import Upstream
from tests.upstream.broker import FakeBroker, Heard, Setting, linked, messages, settings, topics
from tests.waiting import PATIENCE

pytestmark = pytest.mark.wire("5")

V311, V5 = ProtocolVersion.V311, ProtocolVersion.V5
EXPIRED = datetime(2020, 1, 1, tzinfo=UTC)
KEPT = 5  # messages offered while the broker misbehaves


async def recovers(it: Setting) -> None:
    """Let time pass: the broker behaves now, and gets everything."""
    await trio.sleep(300)
    assert it.upstream.is_live
    assert sorted(map(str, it.heard.tokens)) == [str(number) for number in range(KEPT)]


# H1: bytes that are no MQTT, or not what a server may send now.

BROKEN = {
    "a length of five bytes": b"\x30\xff\xff\xff\xff\x01",
    "a length that is not minimal": b"\xd0\x80\x00",
    "a length beyond what we take, and silence": b"\x30\xff\xff\xff\x7f",
    "SUBACK without reasons": b"\x90\x02\x00\x01",
    "SUBACK without reasons, properties": b"\x90\x03\x00\x01\x00",
    "PUBLISH whose topic runs over the end": b"\x30\x04\x00\xff\x41\x42",
    "PUBLISH whose properties run over the end": b"\x30\x05\x00\x01\x41\x7f\x00",
    "PUBLISH at QoS 3": b"\x36\x06\x00\x01\x41\x00\x01\x00",
    "PUBLISH with packet identifier 0": b"\x32\x06\x00\x01\x41\x00\x00\x00",
    "PUBLISH to a wildcard": b"\x30\x04\x00\x01\x23\x00",
    "PUBLISH to bytes that are no text": b"\x30\x05\x00\x02\xc3\x28\x00",
    "PUBLISH to a text with NUL": b"\x30\x05\x00\x02\x41\x00\x00",
    "PUBLISH without topic or alias": b"\x30\x03\x00\x00\x00",
    "PUBACK of one byte": b"\x40\x01\x00",
    "PUBREL with wrong flags": b"\x60\x02\x00\x01",
    "a second CONNACK": b"\x20\x03\x00\x00\x00",
    "CONNECT": b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00",
    "SUBSCRIBE": b"\x82\x07\x00\x01\x00\x00\x01\x41\x00",
    "PINGREQ": b"\xc0\x00",
    "type 0": b"\x00\x00",
    "AUTH that nobody asked for": b"\xf0\x00",
    "a web page": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_H1_a_broker_that_breaks_the_protocol_is_left_and_dialled_anew(
    autojump_clock: MockClock, data: bytes, cut: bool
) -> None:
    async with linked() as it:
        if cut:
            it.broker.line.theirs.receive_bytes = 1
        it.broker.is_mute = True
        it.upstream.offer(messages(KEPT))
        await it.settle()
        it.broker.write(data)
        await it.settle()
        assert not it.upstream.is_live
        assert str(it.upstream.status().last_error).startswith("the broker broke the protocol: ")
        assert it.broker.ends[-1].reason.is_failure
        it.broker.is_mute = False
        await recovers(it)
        assert it.heard.arrived == []


CONNACKS = {
    "wrong flags": b"\x20\x03\x02\x00\x00",
    "a session for a refusal": b"\x20\x03\x01\x87\x00",
    "a reason there is not": b"\x20\x03\x00\x7f\x00",
    "a length that lies": b"\x20\x7f\x00\x00\x00",
    "one byte": b"\x20\x01\x00",
    "a maximum of 0": b"\x20\x06\x00\x00\x03\x21\x00\x00",
    "a property twice": b"\x20\x07\x00\x00\x04\x24\x01\x24\x01",
    "a property of another packet": b"\x20\x05\x00\x00\x02\x01\x01",
    "PUBLISH before it": b"\x30\x04\x00\x01\x41\x00",
    "PINGRESP instead": b"\xd0\x00",
    "a goodbye instead": b"\xe0\x00",
    "nothing": b"",
}


@pytest.mark.parametrize("data", CONNACKS.values(), ids=CONNACKS)
async def test_H1_a_bad_connack_is_a_failed_attempt(autojump_clock: MockClock, data: bytes) -> None:
    def answer(broker: FakeBroker) -> None:
        broker.answer_connect_with = data

    async with linked(prepare=answer) as it:
        assert it.upstream.offer(messages(KEPT)) == KEPT
        await trio.sleep(15)
        assert not it.upstream.is_live
        assert it.upstream.books.connects == 0
        assert it.upstream.books.failures >= 1
        it.broker.answer_connect_with = None
        await recovers(it)


@pytest.mark.parametrize("data", [b"\x20\x03\x01\x00\x00", b"\x20\x02\x01\x00"], ids=["5", "3.1.1"])
async def test_H1_a_session_after_a_clean_start_is_a_failed_attempt(autojump_clock: MockClock, data: bytes) -> None:
    def answer(broker: FakeBroker) -> None:
        broker.answer_connect_with = data

    async with linked(prepare=answer, clean_start=True, version="5" if len(data) == 5 else "3.1.1") as it:
        it.upstream.offer(messages(KEPT))
        await trio.sleep(15)
        assert it.upstream.books.connects == 0
        it.broker.answer_connect_with = None
        await recovers(it)


# H2 to H8


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_H2_acknowledgements_out_of_order_twice_and_for_nothing_are_borne(
    autojump_clock: MockClock, version: str
) -> None:
    async with linked(version=version) as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(KEPT))
        await it.settle()
        ids = [publish.packet_id for publish in it.broker.line.withheld]
        late_first = [ids[4], ids[0], ids[2], ids[0], 60_000, ids[3], ids[4], ids[1]]
        it.broker.write(b"".join(b"\x40\x02" + packet_id.to_bytes(2, "big") for packet_id in late_first))
        it.broker.write(b"\x50\x02\xea\x60" + b"\x62\x02\xea\x60" + b"\x70\x02\xea\x60")
        it.broker.write(encode(UnsubAck(7, (ReasonCode.SUCCESS,)), V5 if version == "5" else V311))
        await it.settle()
        assert it.heard.tokens == [4, 0, 2, 3, 1]
        assert it.upstream.is_live
        assert it.upstream.in_flight == 0


async def test_H2_a_step_that_does_not_fit_the_qos_ends_the_link_and_loses_nothing(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(KEPT))
        await it.settle()
        it.broker.write(b"\x50\x02" + it.broker.messages[0].packet_id.to_bytes(2, "big"))  # PUBREC at QoS 1
        await it.settle()
        assert not it.upstream.is_live
        it.broker.is_mute = False
        await recovers(it)


async def test_H3_the_lowest_limits_are_held_to(autojump_clock: MockClock) -> None:
    def lower(broker: FakeBroker) -> None:
        broker.limits = ServerLimits(receive_maximum=1, packet_size=20, topic_alias_maximum=0)
        broker.extra = Properties(
            maximum_qos=1,
            retain_available=0,
            server_keep_alive=4,
            wildcard_subscription_available=0,
            shared_subscription_available=0,
            subscription_identifier_available=0,
        )
        broker.is_mute = True

    async with linked(prepare=lower) as it:
        it.upstream.offer(
            [(Message("t", b"x", 2, True), 0), (Message("t", b"x" * 20, 1), 1), (Message("t", b"", 1), 2)]
        )
        it.upstream.subscribe("a/#", 0)
        it.upstream.subscribe("a", 0, retained_for="device", as_published=True)
        await it.settle()
        (first,) = it.broker.messages  # one at a time
        assert (first.qos, first.retain, first.properties.topic_alias) == (1, False, None)
        assert it.broker.asked == ["a"]
        assert await it.upstream.wait_subscribed("a/#") is ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
        it.broker.is_mute = False
        it.broker.release()
        await it.settle()
        assert it.heard.tokens == [0, 2]
        assert [(token, reason) for token, _, reason in it.heard.refused] == [(1, ReasonCode.PACKET_TOO_LARGE)]
        await trio.sleep(60)
        assert it.upstream.is_live  # pings came in time for its keep alive
        assert it.upstream.books.connects == 1


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize(
    "reason", [ReasonCode.NOT_AUTHORIZED, ReasonCode.TOPIC_NAME_INVALID, ReasonCode.PAYLOAD_FORMAT_INVALID]
)
async def test_H4_a_refused_message_is_told_and_the_link_goes_on(
    autojump_clock: MockClock, qos: int, reason: ReasonCode
) -> None:
    async with linked() as it:
        it.broker.rejects = {"t/1": reason}
        it.upstream.offer(messages(3, qos=qos))
        await it.settle()
        assert sorted(map(str, it.heard.tokens)) == ["0", "2"]
        assert [(token, why) for token, _, why in it.heard.refused] == [(1, reason)]
        assert it.upstream.is_live
        assert it.upstream.status().breaker.state is BreakerState.CLOSED


async def test_H5_a_black_hole_is_left_and_opens_the_breaker(autojump_clock: MockClock) -> None:
    async with linked(ack_timeout=5.0, breaker_failures=3) as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(KEPT))
        await trio.sleep(60)
        assert it.upstream.status().breaker.state is not BreakerState.CLOSED
        assert it.upstream.in_flight == KEPT
        it.broker.is_mute = False
        await recovers(it)


@pytest.mark.parametrize(
    "reason", [ReasonCode.SESSION_TAKEN_OVER, ReasonCode.USE_ANOTHER_SERVER, ReasonCode.SERVER_MOVED]
)
async def test_H6_a_broker_that_sends_us_away_is_not_obeyed_blindly(
    autojump_clock: MockClock, reason: ReasonCode
) -> None:
    async with linked() as it:
        it.broker.end(reason, Properties(server_reference="evil.example:1883"))
        it.upstream.offer(messages(KEPT))
        await it.settle()
        assert not it.upstream.is_live
        assert reason.name.lower().replace("_", " ") in str(it.upstream.status().last_error)
        await recovers(it)
        assert {options["url"] for _, options in it.broker.dials} == {"mqtt://broker:1883"}


async def test_H7_a_broker_that_reads_nothing_is_left_with_bounded_memory(autojump_clock: MockClock) -> None:
    def fall_deaf(broker: FakeBroker) -> None:
        broker.is_deaf = True
        broker.kernel_bytes = 1024

    async with linked(prepare=fall_deaf, ack_timeout=5.0, queue_messages=100) as it:
        taken = 0
        for item in messages(1000, payload=b"x" * 10_000, qos=0):
            taken += it.upstream.offer([item])
            await it.settle()
        assert 100 <= taken <= 200
        assert it.broker.line.theirs.unsent < 1024 * 1024
        await trio.sleep(6)
        assert it.upstream.books.failures == 1


async def test_H8_a_flood_is_carried_as_far_as_it_keeps_to_the_rules(autojump_clock: MockClock) -> None:
    async with linked() as it:
        it.broker.push(*(Message(f"t/{number}", b"x" * 100) for number in range(10_000)))
        await it.settle()
        assert [publish.topic for publish in it.heard.publishes] == topics(10_000)
        assert it.upstream.is_live


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"".join(encode(Publish("a", b"", 1, packet_id=number), V5) for number in (1, 2, 3, 4)), 0x93),
        (b"".join(encode(Publish("a", b"", 2, packet_id=number), V5) for number in (1, 2, 3, 4)), 0x93),
        (b"\x30\x07\x00\x01\x41\x03\x23\x00\x01", 0x94),
        (b"\x30\x06\x00\x00\x03\x23\x00\x01", 0x94),
        (b"\x30\x07\x00\x01\x41\x03\x23\x00\x00", 0x94),
    ],
    ids=["QoS 1", "QoS 2", "an alias", "an alias alone", "alias 0"],
)
async def test_H8_more_than_we_allowed_ends_the_link(autojump_clock: MockClock, data: bytes, reason: int) -> None:
    async with linked(receive_maximum=3) as it:
        it.heard.withholds = True
        it.broker.write(data)
        await it.settle()
        assert not it.upstream.is_live
        assert it.broker.ends[-1].reason == reason


# H9: who the broker is


@asynccontextmanager
async def upstream_to(folder: Path, certificate: trustme.LeafCert, **changes: Any) -> AsyncIterator[Upstream]:
    """Run an upstream against a listener with a certificate, on real sockets."""
    server = folder / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(server))
    listener = await listen(
        ListenerSettings(
            name="tls", transport="tls", bind=Address("127.0.0.1:0"), certificate=server, private_key=server
        )
    )
    url = f"mqtts://127.0.0.1:{listener.port}"
    upstream = Upstream(settings(url=url, **changes), proxy_id="gw", callbacks=Heard().callbacks())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_shake_hands, listener)
        nursery.start_soon(upstream.run)
        with trio.fail_after(PATIENCE):
            yield upstream
        nursery.cancel_scope.cancel()
    listener.close()


async def _shake_hands(listener: Listener) -> None:
    while True:
        try:
            await listener.handshake(await listener.accept())
        except TransportError:
            continue


@pytest.mark.parametrize("who", ["another host", "a stranger's CA", "self-signed", "expired"])
async def test_H9_a_broker_that_is_not_who_it_should_be_gets_nothing(tmp_path: Path, who: str) -> None:
    ca = trustme.CA()
    issuer = trustme.CA() if who in {"a stranger's CA", "self-signed"} else ca
    host = "other.example" if who == "another host" else "127.0.0.1"
    not_after = EXPIRED if who == "expired" else None
    ca_file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    chosen = None if who == "self-signed" else ca_file  # the system's do not know it
    async with upstream_to(tmp_path, issuer.issue_cert(host, not_after=not_after), ca=chosen) as upstream:
        while not upstream.books.failures:  # noqa: ASYNC110  # another task's sockets: nothing tells us
            await trio.sleep(0.01)
        assert upstream.books.connects == 0
        assert "certificate" in str(upstream.status().last_error)


async def test_H9_an_empty_file_of_cas_does_not_switch_the_check_off(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.touch()
    async with upstream_to(tmp_path, trustme.CA().issue_cert("127.0.0.1"), ca=empty) as upstream:
        while not upstream.books.failures:  # noqa: ASYNC110  # as above
            await trio.sleep(0.01)
        assert upstream.books.connects == 0
        assert "ca.pem" in str(upstream.status().last_error)


# H10: messages that go round


async def test_H10_a_message_that_goes_round_over_two_proxies_reaches_each_broker_once(
    autojump_clock: MockClock,
) -> None:
    async with linked(client_id="one") as here, linked(client_id="two") as there:
        # A bridge carries what each broker has to the other proxy, as a device of it.
        proxies = [(here, "gw"), (there, "gw-2")]
        there.upstream._proxy_id = "gw-2"
        there.broker.kill()
        await trio.sleep(5)
        here.upstream.offer(messages(1))
        rounds = 0
        turn = 0
        while True:
            await here.settle()
            message = proxies[turn][0].broker.messages[-1]
            turn = 1 - turn
            upstream, own_id = proxies[turn]
            admitted = admit(message, own_id, 1)
            if admitted is LOOP:
                break
            rounds += 1
            assert rounds < 5
            upstream.upstream.offer([(admitted, None if not message.qos else rounds)])
        assert (len(here.broker.messages), len(there.broker.messages)) == (1, 1)
        assert there.broker.messages[0].properties.user_properties == (
            ("mqttproxy-hops", "2"),
            ("mqttproxy-origin", "gw"),
        )


async def test_H10_what_began_elsewhere_goes_no_further_than_the_limit(autojump_clock: MockClock) -> None:
    message = Message("t", b"", 1)
    async with linked() as it:
        for hops in (1, 2, 3):
            it.upstream.offer([(message, hops)])
            await it.settle()
            admitted = admit(it.broker.messages[-1], "yet another", 2)
            if hops == 3:
                assert admitted is LOOP
            else:
                assert isinstance(admitted, Message)
                message = admitted
