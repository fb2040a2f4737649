"""A run on disk: what goes in comes back, and damage costs what it touches and is never taken for a message."""

from struct import pack, pack_into, unpack_from
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from mqttproxy.mqtt.grammar import PacketType
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Timed
from mqttproxy.spool.encoding import FRAME, UNKNOWN, Batch, Record, Sender, decode_run
from tests.mqtt.strategies import payloads, properties, topic_names

AHEAD = 1_000_000.0  # what the wall clock is ahead of the monotonic one

SENDER = st.builds(
    Sender,
    st.text(max_size=8),
    st.none() | st.text(max_size=8),
    st.just("192.0.2.1"),
    st.sampled_from(["p", "ü"]),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)
FIELDS = (
    topic_names,
    payloads,
    st.sampled_from([1, 2]),
    st.booleans(),
    st.just(NO_PROPERTIES) | properties(PacketType.PUBLISH),
)
MESSAGES = st.builds(Message, *FIELDS) | st.builds(Timed, *FIELDS, st.integers(0, 1000).map(float))
PARTS = st.lists(st.tuples(SENDER, st.lists(MESSAGES, min_size=1, max_size=12)), min_size=1, max_size=3)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Some messages, from some senders one after the other."""
    parts = draw(PARTS)
    items: list[tuple[Message, object]] = []
    senders: list[tuple[int, Sender]] = []
    for sender, messages in parts:
        senders.append((len(items), sender))
        items += [(message, None) for message in messages]
    return Batch(items, senders, AHEAD)


def expected(batch: Batch) -> list[tuple[Record, Sender]]:
    found = []
    for place, (m, _) in enumerate(batch.items):
        number, (_, sender) = [pair for pair in enumerate(batch.senders) if pair[1][0] <= place][-1]
        over = m.expires_at + AHEAD if isinstance(m, Timed) else None
        found.append((Record(m.topic, m.payload, m.qos, number, m.retain, over, m.properties), sender))
    return found


def plain(count: int) -> Batch:
    items = [(Message(f"t/{number}", b"payload %d" % number, 1), None) for number in range(count)]
    one, other = Sender("a", "u", "192.0.2.1", "plain"), Sender("b", None, "192.0.2.2", "tls")
    return Batch(items, [(0, one), (count // 2, other)], AHEAD)


def frames_of(data: bytes | bytearray) -> list[range]:
    """Return where each frame lies, its head included."""
    places, start = [], 0
    while start < len(data):
        end = start + 8 + unpack_from("<I", data, start)[0]
        places.append(range(start, end))
        start = end
    return places


def of_frame(number: int, count: int) -> list[int]:
    """Return the places of the messages of a frame; 0 is that of the senders."""
    return list(range((number - 1) * FRAME, min(number * FRAME, count))) if number else []


@given(batches(), st.data())
@settings(max_examples=50)
def test_what_is_written_comes_back_whole_and_in_order(batch: Batch, data: st.DataObject) -> None:
    whole = expected(batch)
    encoded = bytes(batch.encode())
    assert decode_run(encoded, len(whole)) == whole
    skip = data.draw(st.integers(0, len(whole)))
    assert decode_run(encoded, len(whole), skip) == whole[skip:]


@given(batches(), st.data())
@settings(max_examples=50)
def test_changed_bytes_are_never_taken_for_a_message(batch: Batch, data: st.DataObject) -> None:
    whole = expected(batch)
    encoded = batch.encode()
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(encoded) - 1))
        encoded[place] ^= data.draw(st.integers(1, 255))
    found = decode_run(bytes(encoded), len(whole))
    assert len(found) == len(whole)
    for pair, (record, sender) in zip(found, whole, strict=True):
        assert pair is None or (pair[0] == record and pair[1] in (sender, UNKNOWN))


def test_each_byte_that_is_flipped_costs_the_frame_that_it_is_of_and_no_other() -> None:
    count = 2 * FRAME + 3
    batch = plain(count)
    whole = expected(batch)
    encoded = bytes(batch.encode())
    for number, frame in enumerate(frames_of(encoded)):
        for place in frame:
            for bit in (0, 3, 7):
                changed = bytearray(encoded)
                changed[place] ^= 1 << bit
                found = decode_run(bytes(changed), count)
                lost = [at for at, pair in enumerate(found) if pair is None]
                if place < frame.start + 4:  # a length: where the next frame begins is not known any more
                    assert set(lost) >= set(of_frame(number, count))
                    assert min(lost) == of_frame(max(number, 1), count)[0]
                elif number:
                    assert lost == of_frame(number, count)
                else:  # the senders
                    assert lost == []
                    assert found == [(record, UNKNOWN) for record, _ in whole]


@pytest.mark.parametrize("rest", range(0, 100, 7))
def test_of_a_run_that_was_cut_short_the_front_comes_back(rest: int) -> None:
    count = 3 * FRAME
    batch = plain(count)
    encoded = bytes(batch.encode())
    kept = encoded[: len(encoded) * rest // 100]
    entire = FRAME * max(0, sum(frame.stop <= len(kept) for frame in frames_of(encoded)) - 1)  # without the senders'
    assert decode_run(kept, count) == [*expected(batch)[:entire], *[None] * (count - entire)]


def test_a_frame_that_is_nested_without_end_is_damaged_even_if_its_checksum_fits() -> None:
    deep = msgspec.msgpack.encode([["t", b"x", 1, 0, False, None]])[:-1] + b"\x80" + b"\x91" * 5000
    deep = deep.replace(b"\x96", b"\x98", 1)
    run = b""
    for number, content in enumerate((msgspec.msgpack.encode([["d", None, "a", "l"]]), deep)):
        run += pack("<II", len(content), crc32(content, number)) + content
    assert decode_run(run, 1) == [None]


@pytest.mark.parametrize("sender", [-1, -2, 1])
def test_a_sender_that_there_is_not_is_unknown(sender: int) -> None:
    run = b""
    records = [["t", b"x", 1, sender]]
    for number, content in enumerate(map(msgspec.msgpack.encode, ([["d", None, "a", "l"]], records))):
        run += pack("<II", len(content), crc32(content, number)) + content
    assert decode_run(run, 1) == [(Record("t", b"x", 1, sender), UNKNOWN)]


def test_nothing_at_all_is_as_many_damaged_messages_as_there_were() -> None:
    assert decode_run(b"", 3) == [None, None, None]
    assert decode_run(b"", 3, 2) == [None]


def test_a_length_beyond_the_end_costs_what_follows_and_nothing_else() -> None:
    batch = plain(3 * FRAME)
    encoded = batch.encode()
    pack_into("<I", encoded, frames_of(encoded)[2].start, 0xFFFF_FFFF)
    assert decode_run(bytes(encoded), 3 * FRAME) == [*expected(batch)[:FRAME], *[None] * (2 * FRAME)]


def test_a_length_that_spans_the_next_frame_too_does_not_shift_those_behind_it() -> None:
    batch = plain(4 * FRAME)
    encoded = batch.encode()
    _, first, second, *_ = frames_of(encoded)
    pack_into("<I", encoded, first.start, second.stop - first.start - 8)
    assert decode_run(bytes(encoded), 4 * FRAME) == [None] * (4 * FRAME)  # and not the third frame as the second


def test_messages_without_anything_special_take_little_room() -> None:
    small = Batch([(Message("t", b"x" * 100, 1), None)] * 100, [(0, Sender("a", None, "192.0.2.1", "plain"))])
    assert len(small.encode()) < 100 * (100 + 20) + 100


@given(st.binary(max_size=200), st.integers(1, 20))
def test_any_bytes_give_messages_or_none(data: bytes, count: int) -> None:
    assert len(decode_run(data, count)) == count


def test_a_sender_that_there_is_not_is_unknown_and_the_message_is_not_lost() -> None:
    batch = plain(2)
    encoded = bytes(batch.encode())
    senders, *_ = frames_of(encoded)
    nobody = Batch(batch.items, [batch.senders[0]]).encode()  # only its frame of senders is used
    assert msgspec.msgpack.decode(bytes(nobody[8 : frames_of(nobody)[0].stop])) == [
        ["a", "u", "192.0.2.1", "plain", {}]
    ]
    mixed = bytes(nobody[: frames_of(nobody)[0].stop]) + encoded[senders.stop :]
    assert [pair and pair[1] for pair in decode_run(mixed, 2)] == [batch.senders[0][1], UNKNOWN]


def test_senders_of_a_version_that_kept_no_attributes_are_read_and_theirs_by_it() -> None:
    class Former(msgspec.Struct, frozen=True, array_like=True):
        client_id: str
        username: str | None
        address: str
        listener: str

    former, now = Former("d", None, "192.0.2.7", "plain"), Sender("d", None, "192.0.2.7", "plain", {"firmware": "2"})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(former), type=Sender) == Sender(
        "d", None, "192.0.2.7", "plain"
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(now), type=Former) == former
