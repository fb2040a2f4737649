"""A1 to A12 of the catalogue of bad input, against the running proxy."""

from contextlib import suppress

import pytest
import trio
import trio.lowlevel

from tests.bad_input.conftest import (
    HELD_UP,
    Victim,
    bystander,
    dialled,
    let_in,
    receive_frames,
    receive_until,
    suffer,
)
from tests.bad_input.every_row import BOTH_VERSIONS, TRANSPORTS, every_way
from tests.bad_input.rows import Play
from tests.bad_input.wire import V5, connect, pair, publish, varint
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.wire("tcp", "5")


@every_way("A1")
def test_A1_remaining_length_of_five_bytes(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("A2")
def test_A2_lengths_that_are_not_minimal(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("A3")
def test_A3_huge_lengths_are_refused_from_the_header(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


async def test_A3_declared_lengths_cost_no_memory(victim: Victim) -> None:
    before = victim.proxy.rss()
    assert await let_many_declare(victim) < before * 1.05 + 2_000_000


async def let_many_declare(victim: Victim) -> int:
    """Let 50 peers declare the largest CONNECT that is allowed and send little of it; return RSS meanwhile."""

    async def declare() -> None:
        async with dialled(victim) as stream:
            stream.send_nowait(b"\x10" + varint(64 * 1024 - 10) + connect(V5)[2:])
            await receive_until(stream, None)  # closed by the deadline

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(declare)
        await trio.to_thread.run_sync(wait_until, lambda: victim.proxy.metric("mqtt_proxy_handshakes") >= 50)
        return victim.proxy.rss()


@every_way("A4")
def test_A4_properties_over_the_end_of_their_packet(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


async def test_A4_properties_are_parsed_once_however_they_arrive(victim: Victim) -> None:
    packet = publish(V5, "t", qos=1, packet_id=3, fields=[pair("k" * 100, "v" * 100)] * 64)
    async with dialled(victim) as stream, dialled(victim) as other:
        await let_in(stream, V5)
        await let_in(other, V5, "bystander")
        slowest = 0.0
        for position, byte in enumerate(packet):
            stream.send_nowait(bytes([byte]))
            if position % 100 == 0:
                slowest = max(slowest, await bystander(victim, other))
        assert await receive_until(stream, b"\x40\x02\x00\x03")
        assert slowest < HELD_UP


@every_way("A5")
def test_A5_fields_over_the_end_and_bytes_behind_it(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("A6")
def test_A6_wrong_flags_and_types(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("A7")
def test_A7_packets_that_no_client_sends_there(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("A8")
def test_A8_a_second_connect(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@TRANSPORTS
async def test_A9_one_byte_a_second_meets_the_connect_deadline(victim: Victim, transport: str) -> None:
    victim.moved()
    began = trio.current_time()
    async with dialled(victim, transport) as stream, trio.open_nursery() as nursery:

        async def trickle() -> None:
            for byte in connect(V5):
                stream.send_nowait(bytes([byte]))
                await trio.sleep(0.5)  # 2 s are over before the last of them

        nursery.start_soon(trickle)
        assert await receive_until(stream, None) == b""
        nursery.cancel_scope.cancel()
    assert 1.5 < trio.current_time() - began < 10  # 2 s, on a busy machine; else it would never end
    assert victim.moved()["mqtt_proxy_connections_refused_total:connect_deadline"] == 1


@TRANSPORTS
async def test_A9_a_peer_that_says_nothing_at_all_meets_it_too(victim: Victim, transport: str) -> None:
    victim.moved()
    stream = await trio.open_tcp_stream("127.0.0.1", victim.proxy.port(transport))
    async with stream:
        with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
    assert victim.moved()["mqtt_proxy_connections_refused_total:connect_deadline"] == 1


@BOTH_VERSIONS
@TRANSPORTS
async def test_A9_single_bytes_work_where_they_come_in_time(victim: Victim, version: int, transport: str) -> None:
    async with dialled(victim, transport) as stream:
        for byte in connect(version) + publish(version, "t", b"x", qos=1, packet_id=9) + b"\xc0\x00":
            stream.send_nowait(bytes([byte]))
            await trio.lowlevel.checkpoint()
        answers = await receive_frames(stream, 3)
    assert sorted(answers)[1:] == [b"\x40\x02\x00\x09", b"\xd0\x00"]


@BOTH_VERSIONS
@TRANSPORTS
async def test_A9_ten_thousand_packets_in_one_segment_are_all_answered(
    victim: Victim, version: int, transport: str
) -> None:
    victim.moved()
    async with dialled(victim, transport) as stream, dialled(victim) as other:
        await let_in(stream, version)
        await let_in(other, V5, "bystander")
        stream.send_nowait(publish(version, "t", b"") * 10_000 + b"\xc0\x00" * 10_000)
        waited = await bystander(victim, other)
        data = b""
        with trio.fail_after(PATIENCE):
            while len(data) < 20_000:
                data += bytes(await stream.receive())
    assert data == b"\xd0\x00" * 10_000
    assert waited < HELD_UP
    assert victim.moved()["mqtt_messages_received_total:0"] == 10_000


@every_way("A10")
def test_A10_nothing_behind_a_refused_connect_is_taken(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@BOTH_VERSIONS
async def test_A10_what_comes_behind_an_accepted_connect_is_taken(victim: Victim, version: int) -> None:
    async with dialled(victim) as stream:
        stream.send_nowait(connect(version) + publish(version, "t", b"x", qos=1, packet_id=9) + b"\xc0\x00")
        answers = await receive_frames(stream, 3)
    assert sorted(answer[0] for answer in answers) == [0x20, 0x40, 0xD0]


@every_way("A11")
def test_A11_many_user_properties(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("A12")
def test_A12_properties_twice_out_of_place_or_out_of_range(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)
