"""C1 to C8, C16 and C17 of the catalogue of bad input, against the running proxy: sessions, each step of QoS."""

from contextlib import AsyncExitStack
from itertools import chain

import pytest
import trio

from tests.bad_input.bounds import RECEIVE_MAXIMUM, SESSIONS_MOST
from tests.bad_input.conftest import Victim, dialled, suffer
from tests.bad_input.every_row import BOTH_VERSIONS, TRANSPORTS, every_way
from tests.bad_input.peer import FOR_LONG, PINGREQ, Peer, joined, new_id, payloads, reasons, wait_for
from tests.bad_input.rows import Play
from tests.bad_input.wire import V5, V311, suback
from tests.conformance.packets import Kind, Prop, ack, connect, prop, publish
from tests.waiting import wait_for_none

pytestmark = pytest.mark.wire("tcp", "5")

# C1


@every_way("C1")
def test_C1_no_client_identifier_or_too_long_a_one(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@TRANSPORTS
async def test_C1_a_session_without_a_name_gets_one_and_is_found_by_it(victim: Victim, transport: str) -> None:
    greeting = connect(V5, "", clean=False, fields=[FOR_LONG])
    names = []
    for _ in range(2):
        async with dialled(victim, transport) as stream:
            peer = Peer(stream, V5)
            peer.send(greeting)
            connack = await peer.expect(Kind.CONNACK)
            assert (connack.reason, connack.session_present) == (0, False)
            names.append(connack.value(Prop.ASSIGNED_CLIENT_IDENTIFIER))
    assert len(set(names)) == 2
    for name in names:
        async with joined(victim, V5, name, transport, stays=True) as peer:
            assert peer.connack is not None
            assert peer.connack.session_present
            assert peer.connack.value(Prop.ASSIGNED_CLIENT_IDENTIFIER) is None


# C2, C3, C4


@every_way("C2")
def test_C2_wrong_names_levels_and_flags_of_connect(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


async def test_C2_a_password_needs_no_user_name_in_5(victim: Victim) -> None:
    async with joined(victim, V5, password=b"secret") as peer:
        assert await peer.fence() == []


@every_way("C3")
def test_C3_qos_3_dup_at_qos_0_and_packet_identifier_0(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("C4")
def test_C4_topic_aliases_that_are_none(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


# C5


@TRANSPORTS
@pytest.mark.parametrize("qos", [1, 2])
async def test_C5_more_messages_than_our_receive_maximum_end_an_mqtt_5_connection(
    bounded: Victim, transport: str, qos: int
) -> None:
    bounded.moved()
    async with joined(bounded, V5, transport=transport) as peer:
        for number in range(1, RECEIVE_MAXIMUM + 1):  # nobody acknowledges them
            peer.send(publish(V5, "stuck/t", b"x", qos=qos, packet_id=number))
        assert await peer.ping() == []
        peer.send(publish(V5, "stuck/t", b"x", qos=qos, packet_id=RECEIVE_MAXIMUM + 1))
        assert reasons(await peer.rest()) == [(Kind.DISCONNECT, 0x93)]
    assert bounded.moved()[f"mqtt_messages_received_total:{qos}"] == RECEIVE_MAXIMUM


@TRANSPORTS
async def test_C5_an_mqtt_311_device_is_not_read_beyond_that(bounded: Victim, transport: str) -> None:
    before = bounded.proxy.metric("mqtt_messages_received_total", qos="1")
    async with joined(bounded, V311, transport=transport) as peer, joined(bounded, V5) as other:
        for number in range(1, RECEIVE_MAXIMUM + 51):
            peer.send(publish(V311, "stuck/t", b"x", qos=1, packet_id=number))
        await wait_for(bounded, "mqtt_messages_received_total", before + RECEIVE_MAXIMUM, qos="1")
        peer.send(PINGREQ)
        assert await other.ping() == []
        with trio.move_on_after(0.2) as scope:  # after the ping of the other one, it would be there at once
            await peer.next()
        assert scope.cancelled_caught, "it was answered beyond what it may have unacknowledged"
        assert bounded.proxy.metric("mqtt_messages_received_total", qos="1") == before + RECEIVE_MAXIMUM


# C6, C7, C8


@TRANSPORTS
@BOTH_VERSIONS
async def test_C6_a_message_at_qos_2_sent_again_is_answered_again_and_forwarded_once(
    victim: Victim, version: int, transport: str
) -> None:
    topic, client_id = new_id("c6"), new_id("sender")

    def message(payload: bytes, *, dup: bool) -> bytes:
        return publish(version, topic, payload, qos=2, packet_id=7, dup=dup)

    async with joined(victim, version) as reader:
        await reader.subscribe(topic, options=0)
        async with joined(victim, version, client_id, transport, stays=True) as sender:
            sender.send(message(b"once", dup=False))
            await sender.expect(Kind.PUBREC)
            sender.send(message(b"once", dup=True), message(b"other bytes", dup=False))
            assert reasons(await sender.fence()) == [(Kind.PUBREC, 0)] * 2
        async with joined(victim, version, client_id, transport, stays=True) as sender:
            assert sender.connack is not None
            assert sender.connack.session_present
            sender.send(message(b"once", dup=True))
            assert (await sender.expect(Kind.PUBREC)).packet_id == 7
            sender.send(ack(Kind.PUBREL, 7))
            await sender.expect(Kind.PUBCOMP)
            sender.send(message(b"new", dup=False))
            await sender.expect(Kind.PUBREC)
        assert payloads(await reader.fence()) == [b"once", b"new"]


@BOTH_VERSIONS
@TRANSPORTS
async def test_C7_messages_at_qos_2_that_are_never_released(victim: Victim, version: int, transport: str) -> None:
    most, last_words = (100, []) if version == V311 else (RECEIVE_MAXIMUM, [(Kind.DISCONNECT, 0x93)])
    async with joined(victim, version, transport=transport) as peer:
        for number in range(1, most + 1):
            peer.send(publish(version, "c7", b"", qos=2, packet_id=number))
            await peer.expect(Kind.PUBREC)
        peer.send(publish(version, "c7", b"", qos=2, packet_id=1, dup=True))  # no new one
        await peer.expect(Kind.PUBREC)
        peer.send(publish(version, "c7", b"", qos=2, packet_id=most + 1))
        assert reasons(await peer.rest()) == last_words


async def test_C7_sessions_that_expire_with_them_leave_nothing(strict: Victim) -> None:
    async def hoard() -> None:
        async with joined(strict, V5, clean=False, fields=[prop(Prop.SESSION_EXPIRY_INTERVAL, 2)]) as peer:
            for number in range(1, 101):
                peer.send(publish(V5, "c7", b"", qos=2, packet_id=number))
            assert len(await peer.fence()) == 100

    for _ in range(2):  # for the second there is room only once the first are gone
        async with trio.open_nursery() as nursery:
            for _ in range(SESSIONS_MOST):
                nursery.start_soon(hoard)
        async with dialled(strict) as stream:
            peer = Peer(stream, V5)
            peer.send(connect(V5, new_id("late")))
            assert (await peer.expect(Kind.CONNACK)).reason == 0x97
        await trio.to_thread.run_sync(wait_for_none, lambda: strict.proxy.metric("mqtt_proxy_sessions"), "sessions")


@every_way("C8")
def test_C8_acknowledgements_with_reasons_that_they_have_not(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@BOTH_VERSIONS
@TRANSPORTS
async def test_C8_acknowledgements_for_nothing(victim: Victim, version: int, transport: str) -> None:
    not_found = 0x92 if version == V5 else 0
    async with joined(victim, version, transport=transport) as peer:
        for kind in (Kind.PUBACK, Kind.PUBCOMP):
            peer.send(ack(kind, 9))
        assert await peer.fence() == []
        peer.send(ack(Kind.PUBREL, 9))
        assert reasons(await peer.fence()) == [(Kind.PUBCOMP, not_found)]
        peer.send(ack(Kind.PUBREC, 9))
        assert reasons(await peer.fence()) == ([(Kind.PUBREL, 0x92)] if version == V5 else [])
        assert await peer.publish("c8") == 0


@BOTH_VERSIONS
@pytest.mark.parametrize(("qos", "kind"), [(1, Kind.PUBREC), (1, Kind.PUBCOMP), (2, Kind.PUBACK), (2, Kind.PUBCOMP)])
async def test_C8_acknowledgements_of_the_wrong_kind(victim: Victim, version: int, qos: int, kind: Kind) -> None:
    client_id, topic = new_id("wrong"), new_id("c8")
    async with joined(victim, version, client_id, stays=True) as peer, joined(victim, V5) as sender:
        await peer.subscribe(topic, options=qos)
        sender.send(publish(V5, topic, b"kept", qos=qos, packet_id=3))
        message = await peer.expect(Kind.PUBLISH)
        peer.send(ack(kind, message.packet_id))
        if version == V5:
            assert reasons(await peer.rest()) == [(Kind.DISCONNECT, 0x82)]
        else:
            assert await peer.fence() == []
    async with joined(victim, version, client_id, stays=True) as peer:  # it is still owed
        again = await peer.expect(Kind.PUBLISH)
        assert (again.payload, again.dup, again.packet_id) == (b"kept", True, message.packet_id)
        await peer.acknowledge(again)


# What goes to a device that has a session waits for the disk where it must; last words need not.


async def test_C8_a_fault_right_behind_a_step_of_qos_2_is_told(victim: Victim) -> None:
    async with joined(victim, V5, stays=True) as peer:
        peer.send(publish(V5, "c8", qos=2, packet_id=1), suback(V5, 1, 0))
        assert reasons(await peer.rest()) == [(Kind.DISCONNECT, 0x82)]


async def test_C14_a_takeover_right_behind_a_step_of_qos_2_is_told(victim: Victim) -> None:
    name = new_id("twin")
    async with joined(victim, V5, name, stays=True) as peer, dialled(victim) as other:
        peer.send(publish(V5, "c14", qos=2, packet_id=1))
        other.send_nowait(connect(V5, name, clean=False, fields=[FOR_LONG]))
        assert reasons(await peer.rest())[-1] == (Kind.DISCONNECT, 0x8E)


# C16


@pytest.mark.parametrize(("qos", "most"), [(1, 65535), (1, 2), (2, 2)])
async def test_C16_what_a_member_never_acknowledged_goes_to_another_when_its_session_ends(
    victim: Victim, qos: int, most: int
) -> None:
    """Who may join the group of somebody else is a matter of the access rules: see `tests/access/test_acl.py`."""
    topic = new_id("c16")
    group = f"$share/{topic}/{topic}"
    sent = [b"%d" % number for number in range(10)]
    async with joined(victim, V5) as sender, joined(victim, V5) as good:
        async with joined(victim, V5, fields=[prop(Prop.RECEIVE_MAXIMUM, most)]) as hoarder:
            assert await hoarder.subscribe(group, options=qos) == (qos,)
            for number, payload in enumerate(sent, 1):
                sender.send(publish(V5, topic, payload, qos=qos, packet_id=number))
            heard = [(await hoarder.expect(Kind.PUBLISH)).payload for _ in sent[:most]]
            assert heard == sent[:most]
            assert await hoarder.fence() == []
            assert await good.subscribe(group, options=qos) == (qos,)
            assert await good.fence() == []
        # At QoS 2 nobody else may get what was sent. [MQTT-4.8.2-5]
        expected = sent if qos == 1 else sent[most:]
        messages = [await good.expect(Kind.PUBLISH) for _ in expected]
        assert [(message.payload, message.qos) for message in messages] == [(payload, qos) for payload in expected]
        for message in messages:
            await good.acknowledge(message)
        assert await good.fence() == []


async def test_C16_a_member_that_comes_from_nowhere_gets_a_share_and_no_more(victim: Victim) -> None:
    topic = new_id("c16")
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(joined(victim, V5)) for _ in range(3)]
        for member in members:
            await member.subscribe(f"$share/{topic}/{topic}", options=1)
        senders = [await stack.enter_async_context(joined(victim, V5)) for _ in range(30)]
        for number, sender in enumerate(senders):
            await sender.publish(topic, b"%d" % number)
        shares = [payloads(await member.fence()) for member in members]
    assert sorted(b"%d" % number for number in range(30)) == sorted(chain.from_iterable(shares))
    assert all(0 < len(share) < 30 for share in shares)


# C17


@every_way("C17")
def test_C17_auth_where_it_does_not_belong(victim: Victim, plays: list[Play], transport: str) -> None:
    """No method is served here: every AUTH is out of place. Where one is: `tests/downstream/test_scram.py`."""
    suffer(victim, plays, transport)
