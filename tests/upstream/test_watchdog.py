"""The broker's health is the progress of its acknowledgements, whatever else it answers."""

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.upstream.watchdog import Watchdog
from tests.mqtt.machines import message, open_client
from tests.upstream.broker import linked, messages


@pytest.mark.parametrize("qos", [1, 2])
async def test_H5_a_broker_that_answers_pings_and_acknowledges_nothing_is_left(
    autojump_clock: MockClock, qos: int
) -> None:
    async with linked(ack_timeout=30.0, keep_alive=4.0) as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(2, qos=qos))
        await trio.sleep(29.9)
        assert it.upstream.is_live
        assert it.broker.line.conn.last_received > 25  # pings
        await trio.sleep(0.2)
        assert it.upstream.status().last_error == "the broker acknowledged nothing for 30 s"


@pytest.mark.parametrize("qos", [1, 2])
async def test_H5_a_broker_that_acknowledges_slowly_but_steadily_is_kept(autojump_clock: MockClock, qos: int) -> None:
    async with linked(ack_timeout=30.0) as it:
        it.broker.is_mute = True
        it.upstream.offer(messages(5, qos=qos))
        for _ in range(5):
            await trio.sleep(29)
            it.broker.release(1)
        await it.settle()
        assert it.heard.tokens == [0, 1, 2, 3, 4]
        assert len(it.broker.dials) == 1


def pubrec(packet_id: int) -> bytes:
    return b"\x50\x02" + packet_id.to_bytes(2, "big")


async def test_pubrec_is_progress_though_pubcomp_is_far(autojump_clock: MockClock) -> None:
    async with linked(ack_timeout=30.0, keep_alive=0.0) as it:
        it.broker.is_mute = it.broker.is_deaf = True
        it.upstream.offer(messages(4, qos=2))
        await it.settle()
        for publish in it.broker.messages[:3]:
            await trio.sleep(20)
            it.broker.write(pubrec(publish.packet_id))
        await trio.sleep(29)
        assert it.upstream.is_live
        await trio.sleep(2)
        assert it.log.times("upstream lost") == [90]


async def test_a_repeated_pubrec_is_no_progress(autojump_clock: MockClock) -> None:
    async with linked(ack_timeout=30.0, keep_alive=0.0) as it:
        it.broker.is_mute = it.broker.is_deaf = True
        it.upstream.offer(messages(1, qos=2))
        await it.settle()
        for _ in range(3):
            it.broker.write(pubrec(1))
            await trio.sleep(9)
        await trio.sleep(5)
        assert it.log.times("upstream lost") == [30]


def test_while_we_do_not_read_it_its_silence_is_ours() -> None:
    conn = open_client()
    conn.publish([(message(1), 1)])
    watchdog = Watchdog(conn, 0.0)
    watchdog.is_held = True
    assert watchdog.look(100.0, 30.0) > 100.0
    watchdog.let_go(100.0)
    assert watchdog.look(120.0, 30.0) == 130.0
