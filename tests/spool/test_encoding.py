"""A run on disk: what goes in comes back, and damage costs what it touches and is never taken for a message."""

from struct import pack_into, unpack_from

import pytest
from hypothesis import given, strategies as st

from mqttproxy.mqtt.grammar import PacketType
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message
from mqttproxy.spool.encoding import UNKNOWN, Batch, Record, Sender, decode_run
from tests.mqtt.strategies import payloads, properties, topic_names

SENDERS = st.lists(
    st.builds(
        Sender, st.text(max_size=8), st.none() | st.text(max_size=8), st.just("192.0.2.1"), st.sampled_from(["p", "ü"])
    ),
    min_size=1,
    max_size=3,
)
MESSAGES = st.builds(
    Message,
    topic_names,
    payloads,
    st.sampled_from([1, 2]),
    st.booleans(),
    st.just(NO_PROPERTIES) | properties(PacketType.PUBLISH),
)
TIMES = st.none() | st.floats(0, 4e9)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    senders = draw(SENDERS)
    parts = st.tuples(MESSAGES, st.integers(0, len(senders) - 1), TIMES)
    return Batch(draw(st.lists(parts, min_size=1, max_size=6)), senders)


def expected(batch: Batch) -> list[tuple[Record, Sender]]:
    return [
        (Record(m.topic, m.payload, m.qos, sender, m.retain, expires_at, m.properties), batch.senders[sender])
        for m, sender, expires_at in batch.messages
    ]


def plain(count: int) -> Batch:
    messages = [(Message(f"t/{number}", b"payload %d" % number, 1), number % 2, None) for number in range(count)]
    return Batch(messages, [Sender("a", "u", "192.0.2.1", "plain"), Sender("b", None, "192.0.2.2", "tls")])


def frames_of(data: bytes | bytearray) -> list[range]:
    """Return where each frame lies, its head included."""
    places, start = [], 0
    while start < len(data):
        end = start + 8 + unpack_from("<I", data, start)[0]
        places.append(range(start, end))
        start = end
    return places


@given(batches(), st.data())
def test_what_is_written_comes_back_whole_and_in_order(batch: Batch, data: st.DataObject) -> None:
    whole = expected(batch)
    encoded = bytes(batch.encode())
    assert decode_run(encoded, len(whole)) == whole
    skip = data.draw(st.integers(0, len(whole)))
    assert decode_run(encoded, len(whole), skip) == whole[skip:]


@given(batches(), st.data())
def test_changed_bytes_are_never_taken_for_a_message(batch: Batch, data: st.DataObject) -> None:
    whole = expected(batch)
    encoded = batch.encode()
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(encoded) - 1))
        encoded[place] ^= data.draw(st.integers(1, 255))
    found = decode_run(bytes(encoded), len(whole))
    assert len(found) == len(whole)
    for pair, (record, sender) in zip(found, whole, strict=True):
        assert pair is None or (pair[0] == record and pair[1] in {sender, UNKNOWN})


def test_each_byte_that_is_flipped_costs_the_message_that_it_is_of_and_no_other() -> None:
    batch = plain(4)
    whole = expected(batch)
    encoded = bytes(batch.encode())
    for number, frame in enumerate(frames_of(encoded)):
        for place in frame:
            for bit in range(8):
                changed = bytearray(encoded)
                changed[place] ^= 1 << bit
                found = decode_run(bytes(changed), 4)
                lost = [at for at, pair in enumerate(found) if pair is None]
                if place < frame.start + 4:  # a length: where the next frame begins is not known any more
                    assert set(lost) >= ({number - 1} if number else set())
                    assert min(lost, default=number) >= number - 1
                elif number:
                    assert lost == [number - 1]
                else:  # the senders
                    assert lost == []
                    assert found == [(record, UNKNOWN) for record, _ in whole]


@pytest.mark.parametrize("rest", range(0, 100, 7))
def test_of_a_run_that_was_cut_short_the_front_comes_back(rest: int) -> None:
    batch = plain(4)
    encoded = bytes(batch.encode())
    kept = encoded[: len(encoded) * rest // 100]
    entire = sum(frame.stop <= len(kept) for frame in frames_of(encoded)) - 1  # without that of the senders
    assert decode_run(kept, 4) == [*expected(batch)[: max(0, entire)], *[None] * (4 - max(0, entire))]


def test_nothing_at_all_is_as_many_damaged_messages_as_there_were() -> None:
    assert decode_run(b"", 3) == [None, None, None]
    assert decode_run(b"", 3, 2) == [None]


def test_a_length_beyond_the_end_costs_what_follows_and_nothing_else() -> None:
    batch = plain(4)
    encoded = batch.encode()
    pack_into("<I", encoded, frames_of(encoded)[2].start, 0xFFFF_FFFF)
    assert decode_run(bytes(encoded), 4) == [expected(batch)[0], None, None, None]


def test_a_length_that_spans_the_next_frame_too_does_not_shift_those_behind_it() -> None:
    batch = plain(4)
    encoded = batch.encode()
    _, first, second, *_ = frames_of(encoded)
    pack_into("<I", encoded, first.start, second.stop - first.start - 8)
    assert decode_run(bytes(encoded), 4) == [None] * 4  # and not the third as the second


def test_messages_without_anything_special_take_little_room() -> None:
    small = Batch([(Message("t", b"x" * 100, 1), 0, None)] * 100, [Sender("a", None, "192.0.2.1", "plain")])
    assert len(small.encode()) < 100 * (100 + 20) + 100


@given(st.binary(max_size=200), st.integers(1, 5))
def test_any_bytes_give_messages_or_none(data: bytes, count: int) -> None:
    assert len(decode_run(data, count)) == count


def test_a_sender_that_there_is_not_is_unknown_and_the_message_is_not_lost() -> None:
    batch = Batch([(Message("t", b"x", 1), 7, None)], [Sender("a", None, "192.0.2.1", "plain")])
    assert decode_run(bytes(batch.encode()), 1) == [(Record("t", b"x", 1, 7), UNKNOWN)]
