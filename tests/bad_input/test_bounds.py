"""C9 to C15 of the catalogue of bad input, against the running proxy: what each peer, and all together, may cost."""

from contextlib import AsyncExitStack, suppress
from itertools import product
from random import Random

import pytest
import trio

from mqttproxy.transport.stream import ByteStream, TransportError
from tests.bad_input.bounds import FLAPPING_MOST, QUEUE_MOST, RETAINED_MOST, SESSIONS_MOST, WILLS_PER_SECOND
from tests.bad_input.conftest import HELD_UP, Victim, bystander, dialled
from tests.bad_input.every_row import BOTH_VERSIONS, TRANSPORTS
from tests.bad_input.peer import FOR_LONG, Peer, joined, new_id, payloads, reasons, refused, wait_for
from tests.bad_input.wire import V5, V311, unsubscribe
from tests.conformance.packets import Kind, Prop, Will, ack, connect, prop, publish, subscribe
from tests.waiting import PATIENCE

pytestmark = pytest.mark.wire("tcp", "5")

# C9


@TRANSPORTS
async def test_C9_a_device_that_reads_nothing_costs_a_bounded_queue_and_is_cut(bounded: Victim, transport: str) -> None:
    await glut(bounded, transport)
    before = bounded.proxy.rss()
    bounded.moved()
    await glut(bounded, transport)
    assert bounded.moved()["mqtt_proxy_deliveries_dropped_total:queue_full"] > 0
    assert bounded.proxy.rss() < before * 1.05 + 2_000_000


async def glut(victim: Victim, transport: str) -> None:
    """Publish 20 MB to a device that reads nothing, until it is cut; the proxy may keep 4 MiB of them."""
    topic, reason = new_id("c9"), {"reason": "connection_lost"}
    lost = victim.proxy.metric("mqtt_proxy_connections_closed_total", **reason)
    async with joined(victim, V311, transport=transport) as slow, joined(victim, V5) as sender:
        await slow.subscribe(topic, options=0)
        async with joined(victim, V5) as other:
            for number in range(100):
                await sender.publish(topic, bytes(200_000))
                if number % 20 == 0:
                    assert await bystander(victim, other.stream) < HELD_UP
            other.send(b"\xe0\x00")
        await wait_for(victim, "mqtt_proxy_connections_closed_total", lost + 1, **reason)


@BOTH_VERSIONS
async def test_C9_a_device_that_never_acknowledges_gets_its_receive_maximum_and_a_bounded_queue(
    bounded: Victim, version: int
) -> None:
    topic, fields = new_id("c9"), [prop(Prop.RECEIVE_MAXIMUM, 10)] if version == V5 else []
    in_flight = 10 if version == V5 else QUEUE_MOST
    bounded.moved()
    async with joined(bounded, version, fields=fields) as mute, joined(bounded, V5) as sender:
        await mute.subscribe(topic, options=1)
        for number in range(QUEUE_MOST * 3):
            await sender.publish(topic, b"%d" % number)
        heard = payloads(await mute.fence())
        if version == V5:
            assert heard == [b"%d" % number for number in range(in_flight)]
            dropped = bounded.moved()["mqtt_proxy_deliveries_dropped_total:queue_full"]
            assert dropped == QUEUE_MOST * 3 - in_flight - QUEUE_MOST
        assert await sender.fence() == []


# C10


async def test_C10_keep_alives_of_nothing_or_of_hours_are_what_the_proxy_says(strict: Victim) -> None:
    """Keep alive is at most 2 s here, so silence ends a connection after 3 s, also if a packet comes byte by byte."""

    async def squat(version: int, keep_alive: int, transport: str, dribbles: bool) -> None:
        async with joined(strict, version, transport=transport, keep_alive=keep_alive) as peer:
            began = trio.current_time()
            assert peer.connack is not None
            if version == V5:
                assert peer.connack.value(Prop.SERVER_KEEP_ALIVE) == (2 if keep_alive != 2 else None)
            async with trio.open_nursery() as nursery:
                if dribbles:
                    nursery.start_soon(dribble, peer)
                heard = await peer.rest()
                nursery.cancel_scope.cancel()
            assert reasons(heard) == ([(Kind.DISCONNECT, 0x8D)] if version == V5 else [])
            assert 2.5 < trio.current_time() - began < 15.0  # 3 s, on a busy machine; if bytes counted, 30 s

    async def dribble(peer: Peer) -> None:
        for byte in publish(peer.version, "c10", bytes(100)):
            peer.send(bytes([byte]))
            await trio.sleep(0.3)  # far less than it may be silent

    async with trio.open_nursery() as nursery:
        for case in product((V311, V5), (0, 2, 65535), ("tcp", "ws"), (False, True)):
            nursery.start_soon(squat, *case)
    strict.proxy.check_unharmed()


# C11


@pytest.mark.parametrize("asked", [3601, 0xFFFFFFFE, 0xFFFFFFFF])
async def test_C11_no_session_is_kept_for_longer_than_the_cap_which_is_told(strict: Victim, asked: int) -> None:
    name, fields = new_id("long"), [prop(Prop.SESSION_EXPIRY_INTERVAL, asked)]
    async with joined(strict, V5, name, clean=False, fields=fields) as peer:
        assert peer.connack is not None
        assert peer.connack.value(Prop.SESSION_EXPIRY_INTERVAL) == 3600
    async with joined(strict, V5, name):  # and is gone with a clean start
        pass


async def test_C11_sessions_beyond_the_cap_are_refused_and_those_that_are_there_go_on(strict: Victim) -> None:
    names = [new_id("many") for _ in range(SESSIONS_MOST)]
    for name in names:
        async with joined(strict, V5, name, stays=True):
            pass
    assert reasons(await refused(strict, V5, connect(V5, new_id("one more")))) == [(Kind.CONNACK, 0x97)]
    assert reasons(await refused(strict, V311, connect(V311, new_id("one more")))) == [(Kind.CONNACK, 3)]
    for name in names:
        async with joined(strict, V5, name, stays=True) as peer:
            assert peer.connack is not None
            assert peer.connack.session_present
        async with joined(strict, V5, name):  # the end of it
            pass
    async with joined(strict, V311):  # there is room again
        pass


async def test_C11_what_waits_for_absent_devices_is_bounded_over_all_of_them(strict: Victim) -> None:
    """100 KiB for all queues together, while each of them might hold 1,000 messages and 16 MiB."""
    names = [new_id("absent") for _ in range(10)]
    strict.moved()
    for name in names:
        async with joined(strict, V5, name, stays=True) as peer:
            await peer.subscribe("c11", options=1)
    async with joined(strict, V5) as sender:
        for _ in range(5):
            assert await sender.publish("c11", bytes(10_000)) == 0
    kept = 0
    for name in names:
        async with joined(strict, V5, name, stays=True) as peer:
            kept += len(await peer.fence())
        async with joined(strict, V5, name):
            pass
    dropped = strict.moved()["mqtt_proxy_deliveries_dropped_total:queue_full"]
    assert (kept, kept + dropped) == (10, 50)


# C12


@BOTH_VERSIONS
@TRANSPORTS
async def test_C12_a_subscription_bomb_is_answered_filter_by_filter(
    victim: Victim, version: int, transport: str
) -> None:
    granted, no = 0, 0x80 if version == V311 else 0x97
    async with joined(victim, version, transport=transport) as peer, joined(victim, V5) as other:
        peer.send(subscribe(version, *((f"c12/{number}", 0) for number in range(10_000))))
        assert await bystander(victim, other.stream) < HELD_UP
        assert (await peer.expect(Kind.SUBACK)).reasons == (granted,) * 100 + (no,) * 9_900
        for start in range(100, 1000, 100):
            assert await peer.subscribe(*filters(start), options=0) == (granted,) * 100
        assert await peer.subscribe(*filters(1000), options=0) == (no,) * 100
        assert await peer.subscribe("c12/1", "c12/other", options=0) == (granted, no)  # it has the first
        peer.send(unsubscribe(version, "c12/1"))
        await peer.expect(Kind.UNSUBACK)
        assert await peer.subscribe("c12/other", "c12/1", options=0) == (granted, no)


def filters(start: int) -> list[str]:
    return [f"c12/{number}" for number in range(start, start + 100)]


async def test_C12_filters_that_overlap_a_thousandfold_bring_a_message_once(victim: Victim) -> None:
    root = new_id("c12")
    overlapping = [f"{root}/" + "/".join(levels) for levels in product("a+", repeat=9)]
    overlapping += [f"{root}/{'+/' * depth}#" for depth in range(9)]
    async with joined(victim, V5) as peer, joined(victim, V5) as sender, joined(victim, V5) as other:
        for start in range(0, len(overlapping), 100):
            some = overlapping[start : start + 100]
            assert await peer.subscribe(*some, options=0) == (0,) * len(some)
        for number in range(50):
            sender.send(publish(V5, f"{root}/" + "/".join("a" * 9), b"%d" % number))
        assert await bystander(victim, other.stream) < HELD_UP
        await sender.publish(f"{root}/a", b"last")
        heard = [(await peer.expect(Kind.PUBLISH)).payload for _ in range(51)]
        assert heard == [*(b"%d" % number for number in range(50)), b"last"]
        assert await peer.fence() == []


# C13


@BOTH_VERSIONS
async def test_C13_a_flood_of_retained_messages_meets_the_quota(bounded: Victim, version: int) -> None:
    topics = [new_id("c13/flood") for _ in range(RETAINED_MOST + 20)]
    no = 0 if version == V311 else 0x97  # 3.1.1 has no word for it
    async with joined(bounded, version) as sender, joined(bounded, V5) as reader:
        for index, topic in enumerate(topics, 1):
            answer = await sender.publish(topic, b"kept", retain=True, packet_id=index)
            assert answer == (0 if index <= RETAINED_MOST else no)
        assert await sender.publish(topics[0], b"replaced", retain=True) == 0
        assert await reader.subscribe("c13/flood/#", options=0) == (0,)
        assert await reader.fence() == []
        await reader.subscribe("c13/+", options=0)
        heard = await reader.fence()
        assert {packet.topic for packet in heard} == set(topics[:RETAINED_MOST])
        assert sorted(payloads(heard)) == [b"kept"] * (RETAINED_MOST - 1) + [b"replaced"]
        assert await sender.publish(topics[0], b"", retain=True) == 0  # which makes room for one
        assert await sender.publish(topics[-1], b"kept", retain=True) == 0
        assert await sender.publish(topics[-2], b"kept", retain=True) == no
        for topic in topics[:-2]:
            await sender.publish(topic, b"", retain=True)
        await sender.publish(topics[-1], b"", retain=True)


async def test_C13_thousands_of_retained_messages_for_many_at_once_hold_nobody_up(victim: Victim) -> None:
    """Three times as many as a queue holds, for each of five peers: all come, as fast as each takes them."""
    root, number = new_id("storm"), 3000
    topics = {f"{root}/{index}" for index in range(number)}
    victim.moved()
    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(joined(victim, V5))
        other = await stack.enter_async_context(joined(victim, V5))
        for topic in topics:
            sender.send(publish(V5, topic, b"kept", retain=True))
        await sender.publish(f"{root}/0", b"kept", retain=True)
        peers = [await stack.enter_async_context(joined(victim, V5)) for _ in range(5)]
        for peer in peers:
            peer.send(subscribe(V5, (f"{root}/#", 0)))
        slowest = 0.0
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(take_all, peer, topics)
            for _ in range(10):
                slowest = max(slowest, await bystander(victim, other.stream))
        assert slowest < HELD_UP
        for topic in topics:
            sender.send(publish(V5, topic, b"", retain=True))
        await sender.publish(f"{root}/0", b"", retain=True)
    assert not [name for name in victim.moved() if name.startswith("mqtt_proxy_deliveries_dropped")]


async def take_all(peer: Peer, topics: set[str]) -> None:
    await peer.expect(Kind.SUBACK)
    heard = [(await peer.expect(Kind.PUBLISH)).topic for _ in topics]
    assert set(heard) == topics


# C14


@BOTH_VERSIONS
@TRANSPORTS
async def test_C14_the_older_of_two_devices_with_one_name_is_told_and_cut(
    victim: Victim, version: int, transport: str
) -> None:
    name = new_id("twin")
    async with joined(victim, version, name, transport) as older, joined(victim, version, name, transport) as newer:
        assert reasons(await older.rest()) == ([(Kind.DISCONNECT, 0x8E)] if version == V5 else [])
        assert await newer.fence() == []


@BOTH_VERSIONS
async def test_C14_ping_pong_ends_with_a_ban_that_leaves_the_connected_one_in_peace(
    bounded: Victim, version: int
) -> None:
    name = new_id("flapping")
    bounded.moved()
    async with AsyncExitStack() as stack:
        for _ in range(FLAPPING_MOST):
            last = await stack.enter_async_context(joined(bounded, version, name))
        for _ in range(3):
            told = reasons(await refused(bounded, version, connect(version, name)))
            assert told == [(Kind.CONNACK, 0x8A if version == V5 else 5)]
        assert await last.fence() == []
        async with joined(bounded, version, name + "-other") as other:  # which is somebody else
            assert await other.fence() == []
    assert bounded.moved()["mqtt_proxy_connections_refused_total:banned"] == 3


@pytest.mark.parametrize("seed", [1, 2])
async def test_C14_twins_that_subscribe_and_unsubscribe_while_others_publish_harm_nobody(
    victim: Victim, seed: int
) -> None:
    chance, root, name = Random(seed), new_id("c14"), new_id("twin")
    topic, wanted = f"{root}/x", [f"{root}/x", f"{root}/+", f"{root}/#", f"$share/g/{root}/#"]

    async def twin(version: int, transport: str) -> None:
        for _ in range(25):
            async with dialled(victim, transport) as stream:
                stay = [FOR_LONG] if version == V5 else []
                data = [connect(version, name, clean=chance.random() < 0.3, fields=stay)]
                for number in range(1, chance.randrange(2, 12)):
                    one = chance.choice(wanted)
                    data += chance.choice(
                        [
                            [subscribe(version, (one, chance.randrange(3)), packet_id=number)],
                            [unsubscribe(version, one, packet_id=number)],
                            [publish(version, topic, b"x", qos=2, packet_id=number)],
                        ]
                    )
                stream.send_nowait(b"".join(data))
                if chance.random() < 0.5:
                    await trio.sleep(chance.random() * 0.01)  # cut off at any moment
                else:
                    await until_heard(stream)

    async def flood(scope: trio.CancelScope) -> None:
        with scope:
            async with joined(victim, V5) as sender:
                while True:
                    sender.send(*(publish(V5, topic, b"flood", qos=0) for _ in range(20)))
                    await sender.publish(topic, b"flood")

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood, scope)
        async with trio.open_nursery() as twins:
            for version, transport in [(V5, "tcp"), (V311, "tcp"), (V5, "ws"), (V311, "tls")]:
                twins.start_soon(twin, version, transport)
        scope.cancel()
    async with joined(victim, V5, name) as peer:
        assert await peer.subscribe(topic, options=1) == (1,)
        peer.send(publish(V5, topic, b"last", qos=1, packet_id=1))
        while (await peer.next()).payload != b"last":
            pass
    victim.proxy.check_unharmed()


async def until_heard(stream: ByteStream) -> None:
    """Wait for whatever comes: CONNACK, or the end, for the other twin may have been quicker."""
    with trio.fail_after(PATIENCE), suppress(TransportError):
        await stream.receive()


# C15


async def test_C15_a_storm_of_wills_is_paced_and_complete(bounded: Victim) -> None:
    number, topic = 150, new_id("c15")
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(joined(bounded, V5))
        other = await stack.enter_async_context(joined(bounded, V5))
        await reader.subscribe(f"{topic}/#", options=1)
        async with AsyncExitStack() as dying:
            for index in range(number):
                will = Will(f"{topic}/{index}", qos=1)
                version, transport = ((V5, "tcp"), (V311, "ws"))[index % 2]
                await dying.enter_async_context(joined(bounded, version, transport=transport, will=will))
        began = trio.current_time()
        heard = []
        for index in range(number):
            message = await reader.expect(Kind.PUBLISH)
            heard.append(message.topic)
            reader.send(ack(Kind.PUBACK, message.packet_id))
            if index % 30 == 0:
                assert await bystander(bounded, other.stream) < HELD_UP
        assert trio.current_time() - began > number / WILLS_PER_SECOND / 2
        assert len(set(heard)) == number
        assert await reader.fence() == []


@pytest.mark.parametrize(("expiry", "back"), [(0, False), (1, False), (1, True)])
async def test_C15_a_will_that_is_to_wait_for_longer_than_its_session_comes_at_the_end_of_that(
    victim: Victim, expiry: int, *, back: bool
) -> None:
    topic, name = new_id("c15"), new_id("dying")
    will = Will(topic, fields=[prop(Prop.WILL_DELAY_INTERVAL, 0xFFFFFFFF)])
    kept = [prop(Prop.SESSION_EXPIRY_INTERVAL, expiry)]
    async with joined(victim, V5) as reader:
        await reader.subscribe(topic)
        async with joined(victim, V5, name, clean=False, will=will, fields=kept):
            pass
        began = trio.current_time()
        if back:
            async with joined(victim, V5, name, clean=False, will=will, fields=kept):
                assert await reader.fence() == []
            began = trio.current_time()
        assert (await reader.expect(Kind.PUBLISH)).payload == b"gone"
        assert expiry - 0.2 < trio.current_time() - began < expiry + 3
        assert await reader.fence() == []
