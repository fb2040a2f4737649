"""E3, E4 and E6 of the catalogue: peers that vanish, hang up or reset the connection, whatever was on its way."""

import socket
import struct

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import ProtocolVersion, Will
from mqttproxy.mqtt.reasons import ReasonCode
from tests.bad_input.caller import Caller
from tests.bad_input.conftest import Victim, until, watched_loop
from tests.bad_input.every_row import TRANSPORTS
from tests.bad_input.peer import joined, new_id, wait_for
from tests.bad_input.wire import V5, connect, optional, publish, subscribe, text
from tests.conformance.packets import Kind
from tests.house import open_house

pytestmark = pytest.mark.wire("tcp", "5")

BOTH_VERSIONS = pytest.mark.parametrize("version", ProtocolVersion, ids=["3.1.1", "5"])
# What a device has said when it goes, after CONNECT was answered.
STATES = {
    "nothing more": b"",
    "half of a header": b"\x30",
    "half of a message": publish(V5, "e6", bytes(100), qos=1)[:-50],
    "a message at QoS 2": publish(V5, "e6", b"x", qos=2),
    "a subscription": subscribe(V5, "e6/#"),
    "a packet that is none": b"\x00\x00",
}
# What it has said when it goes before that.
EARLY = {"nothing": b"", "half of a header": b"\x10", "half of CONNECT": connect(V5)[:-2]}


@BOTH_VERSIONS
async def test_E4_a_peer_that_vanished_is_let_go_after_one_and_a_half_keep_alives_and_its_will_comes_once(
    version: ProtocolVersion, autojump_clock: MockClock
) -> None:
    async with open_house() as house:
        witness = await house.connect("witness", keep_alive=0)
        witness.subscribe("will")
        device = await house.connect(version=version, will=Will("will", b"gone", 1), keep_alive=60)
        began = trio.current_time()
        await trio.sleep(1000)
        assert device.ended_at == began + 90
        assert device.goodbye is (ReasonCode.KEEP_ALIVE_TIMEOUT if version is ProtocolVersion.V5 else None)
        assert house.metrics.connections_closed == {"keep_alive_timeout": 1}
        assert witness.received == [("will", b"gone")]


def leave(caller: Caller, *, resets: bool) -> None:
    """Hang up by FIN or RST, without a word of TLS or WebSocket."""
    if resets:
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    caller.socket.close()


def connect_with_will(topic: str, payload: str) -> bytes:
    return connect(V5, "", flags=0x06, payload=optional(V5) + text(topic) + text(payload))


@TRANSPORTS
@pytest.mark.parametrize("resets", [False, True], ids=["ends", "resets"])
async def test_E3_E6_whoever_goes_in_any_state_leaves_its_will_and_nothing_else(
    victim: Victim, transport: str, *, resets: bool
) -> None:
    topic = new_id("e6")
    async with joined(victim, V5) as witness:
        await witness.subscribe(topic, options=0)

        def go() -> None:
            for said in EARLY.values():
                with Caller.dial(victim.proxy, transport) as caller:
                    caller.send(said)
                    leave(caller, resets=resets)
            for state, said in STATES.items():
                with Caller.dial(victim.proxy, transport) as caller:
                    caller.send(connect_with_will(topic, state))
                    assert until(caller, bool)[0][:1] == b"\x20"
                    caller.send(said)
                    leave(caller, resets=resets)

        await trio.to_thread.run_sync(go)
        heard = [(await witness.expect(Kind.PUBLISH)).payload.decode() for _ in STATES]
        assert sorted(heard) == sorted(STATES)
        assert await witness.fence() == []
    victim.proxy.check_unharmed()


@TRANSPORTS
async def test_E6_what_came_before_the_end_is_taken(victim: Victim, transport: str) -> None:
    before = victim.proxy.metric("mqtt_messages_received_total", qos="1")
    with Caller.dial(victim.proxy, transport) as caller:
        caller.send(connect(V5, ""))
        assert until(caller, bool)[0][:1] == b"\x20"
        caller.send(b"".join(publish(V5, "e6", bytes(1000), qos=1, packet_id=number) for number in range(1, 101)))
        leave(caller, resets=False)
        await wait_for(victim, "mqtt_messages_received_total", before + 100, qos="1")


def test_E6_connecting_and_closing_as_fast_as_it_goes_holds_nobody_up(victim: Victim) -> None:
    lines = len(victim.proxy.log())
    with watched_loop(victim):
        for number in range(1000):
            with Caller.dial(victim.proxy, "tcp") as caller:
                leave(caller, resets=bool(number % 2))
    assert len(victim.proxy.log()) - lines < 20
    victim.proxy.check_unharmed()
