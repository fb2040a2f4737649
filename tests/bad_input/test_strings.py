"""B1 to B9 of the catalogue of bad input, against the running proxy."""

import json

import pytest
import trio

from tests.bad_input.conftest import Victim, dialled, let_in, play_all, receive_frames, receive_until, suffer
from tests.bad_input.every_row import BOTH_VERSIONS, BY_HAND, TRANSPORTS, every_way
from tests.bad_input.framing_rows import FRAMING
from tests.bad_input.rows import Play
from tests.bad_input.wire import V5, V311, frames, publish, suback, subscribe, without_reasons

pytestmark = pytest.mark.wire("tcp", "5")


@every_way("B1")
def test_B1_bytes_that_are_no_text(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@BOTH_VERSIONS
async def test_B1_a_byte_order_mark_is_kept(victim: Victim, version: int) -> None:
    topic = b"\xef\xbb\xbfbom"
    async with dialled(victim) as stream:
        await let_in(stream, version)
        stream.send_nowait(subscribe(version, topic, packet_id=1, options=0) + publish(version, topic, b"x"))
        answers = await receive_frames(stream, 2)
    assert answers == [suback(version, 1, 0), publish(version, topic, b"x")]


@every_way("B2")
def test_B2_characters_that_nobody_should_send(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("B3")
def test_B3_empty_topics(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("B4")
def test_B4_wildcards_in_topic_names(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("B5")
def test_B5_thousands_of_levels(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("B6")
def test_B6_bad_filters(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


@every_way("B7")
def test_B7_publishing_to_topics_of_the_server(victim: Victim, plays: list[Play], transport: str) -> None:
    suffer(victim, plays, transport)


async def test_B7_nobody_gets_what_was_published_there(victim: Victim) -> None:
    async with dialled(victim) as listener, dialled(victim) as publisher:
        await let_in(listener, V311, "listener")
        await let_in(publisher, V311, "publisher")
        listener.send_nowait(subscribe(V311, "$SYS/x", "$CONTROL/#", "$x/#", "$proxy/errors/listener", options=0))
        assert await receive_frames(listener, 1) == [suback(V311, 1, 0, 0, 0, 0)]
        for topic in ("$SYS/x", "$CONTROL/x", "$x/x", "$proxy/errors/listener"):
            publisher.send_nowait(publish(V311, topic, b"x", qos=1))
        await receive_frames(publisher, 4)
        listener.send_nowait(b"\xc0\x00")
        assert await receive_frames(listener, 1) == [b"\xd0\x00"]


def deep_filter(number: int) -> str:
    return "/".join("+" if number >> bit & 1 else "a" for bit in range(60))


async def test_B8_many_deep_filters_with_wildcards_do_not_hold_the_loop(victim: Victim) -> None:
    async with dialled(victim) as stream:
        await let_in(stream, V5)
        for start in range(0, 1000, 100):
            filters = [deep_filter(number) for number in range(start, start + 100)]
            stream.send_nowait(subscribe(V5, *filters, options=0))
            (answer,) = await receive_frames(stream, 1)
            assert answer.endswith(bytes(100))
        began = trio.current_time()
        for number in range(20):  # each of them for the first time: nothing is remembered
            stream.send_nowait(publish(V5, "/".join(["a"] * 59 + [str(number)]), b"x"))
        stream.send_nowait(b"\xc0\x00")
        await receive_frames(stream, 1)
        assert trio.current_time() - began < 10.0  # on an idle machine far below 1


@BOTH_VERSIONS
async def test_B9_wildcards_do_not_match_topics_of_the_server(victim: Victim, version: int) -> None:
    async with dialled(victim) as snoop, dialled(victim) as device:
        await let_in(snoop, version, "snoop")
        await let_in(device, version, "device")
        snoop.send_nowait(subscribe(version, "#", "+/#", "+/errors/device", "+/+/+", options=0))
        assert await receive_frames(snoop, 1) == [suback(version, 1, 0, 0, 0, 0)]
        device.send_nowait(subscribe(version, "$proxy/errors/device", options=0))
        await receive_frames(device, 1)
        device.send_nowait(publish(version, "n/1", b"not a number", qos=1, packet_id=9))
        answers = await receive_frames(device, 2)
        (document,) = [answer for answer in answers if answer[0] >> 4 == 3]
        body = json.loads(document[document.index(b"{") :])
        assert (body["action"], body["topic"], body["policy"]) == ("refused", "n/1", "numbers")
        snoop.send_nowait(b"\xc0\x00")
        assert await receive_frames(snoop, 1) == [b"\xd0\x00"]


@BOTH_VERSIONS
async def test_B9_nor_do_shared_ones_or_another_devices_error_topic(victim: Victim, version: int) -> None:
    no = 0x80 if version == V311 else 0x87
    async with dialled(victim) as snoop, dialled(victim) as device:
        await let_in(snoop, version, "snoop")
        await let_in(device, version, "device")
        filters = ("$share/g/#", "$share/g/+/errors/device", "$share/g/$proxy/errors/device", "$proxy/#")
        snoop.send_nowait(subscribe(version, *filters))
        (answer,) = await receive_frames(snoop, 1)
        assert (without_reasons(answer) if version == V5 else answer) == suback(version, 1, 1, 1, no, no)
        device.send_nowait(subscribe(version, "$proxy/errors/device", options=0))
        device.send_nowait(publish(version, "n/1", b"not a number", qos=1, packet_id=9))
        assert len(await receive_frames(device, 3)) == 3
        snoop.send_nowait(b"\xc0\x00")
        assert await receive_frames(snoop, 1) == [b"\xd0\x00"]


async def test_G2_the_log_is_rate_limited_and_escaped(victim: Victim) -> None:
    """For all rows: one line and one line only, and nothing in it that a terminal would obey."""
    await trio.sleep(1.1)  # a second in which nothing was logged
    before = len(victim.proxy.log())
    began = trio.current_time()
    for _ in range(100):
        async with dialled(victim) as stream:
            await let_in(stream, V5, "\N{RIGHT-TO-LEFT OVERRIDE}row")
            stream.send_nowait(publish(V5, b"\x1b[31mred\r\n{}%s%n", b"x"))
            assert [answer[0] for answer in frames(await receive_until(stream, None))] == [0xE0]
    lines = victim.proxy.log()[before:]
    about = [line for line in lines if line["event"] == "protocol_error"]
    assert 1 <= len(about) <= trio.current_time() - began + 1
    assert len(lines) == len(about)
    assert about[0]["client_id"] == "\N{RIGHT-TO-LEFT OVERRIDE}row"
    assert "\\x1b" in about[0]["error"]
    raw = victim.proxy.log_file.read_bytes()
    assert not {byte for byte in raw if byte < 32} - {10}


@TRANSPORTS
def test_all_rows_over_and_over_leave_the_memory_as_it_was(victim: Victim, transport: str) -> None:
    rows = BY_HAND if transport == "tcp" else FRAMING
    plays = [Play(row, cut=False) for row in rows]
    assert play_all(victim, plays, transport) == []
    before = victim.proxy.rss()
    for _ in range(2):
        assert play_all(victim, plays, transport) == []
    assert victim.proxy.rss() < before * 1.05 + 2_000_000
    victim.proxy.check_unharmed()
