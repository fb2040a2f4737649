"""Runs in a real database: written by the journal's store, read back by a connection of its own."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mqttproxy.database import make_store
from mqttproxy.journal import Changes, Row
from mqttproxy.journal.store import SqliteStore
from mqttproxy.mqtt.packets import Message
from mqttproxy.spool.encoding import Batch, Record, Sender
from mqttproxy.spool.reader import SqliteReader, Sum, run_of
from mqttproxy.spool.rows import ConsumedRow, RunRow
from mqttproxy.tables import DATABASE

A, B, BOTH = 1, 2, 3  # masks
BATCH_SENDERS = [(0, Sender("d", None, "192.0.2.7", "plain"))]


def run(first: int, messages: int = 1, mask: int = A, *, size: int = 10, at: float = 0.0) -> RunRow:
    batch = Batch([(Message("t", bytes(size), 1), None)] * messages, BATCH_SENDERS)
    return RunRow(first, first + messages - 1, mask, 1, at, messages, size * messages, batch)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = make_store(tmp_path)
    store.load()
    yield store
    store.close()


@pytest.fixture
def reader(store: SqliteStore, tmp_path: Path) -> Iterator[SqliteReader]:
    reader = SqliteReader(tmp_path / DATABASE)
    yield reader
    reader.close()


def decode_all(row: RunRow) -> list[tuple[Record, Sender] | None]:
    return run_of((row.first, row.last, row.mask, row.epoch, row.at, row.messages, row.size, bytes(row.data))).decode()


def write(store: SqliteStore, *rows: Row) -> None:
    changes = Changes()
    for row in rows:
        changes.put(row, is_new=False)
    store.apply(changes)


def firsts(reader: SqliteReader, bit: int, after: int, size: int = 1_000_000) -> list[int]:
    return [found.first for found in reader.runs(bit, after, size)]


def test_an_empty_spool_has_nothing_to_read(reader: SqliteReader) -> None:
    assert (reader.masks(), reader.highest(), reader.runs(A, 0, 100), reader.oldest(A, 0)) == ([], 0, [], None)
    assert reader.total(A, 0) == Sum(0, 0, 0)


def test_a_run_comes_back_as_it_was_written(store: SqliteStore, reader: SqliteReader) -> None:
    write(store, run(5, 3, BOTH, at=123.5))
    (found,) = reader.runs(B, 0, 1)
    assert found[:-1] == (5, 7, BOTH, 1, 123.5, 3, 30)
    assert [pair[0].payload for pair in found.decode() if pair is not None] == [bytes(10)] * 3


def test_a_destination_reads_its_own_in_order_of_the_numbers(store: SqliteStore, reader: SqliteReader) -> None:
    write(store, run(9, 1, BOTH), run(1, 2), run(4, 5, B), run(3))
    assert firsts(reader, A, 0) == [1, 3, 9]
    assert firsts(reader, B, 0) == [4, 9]
    assert sorted(reader.masks()) == [A, B, BOTH]
    assert reader.highest() == 9


@pytest.mark.parametrize(("after", "found"), [(0, [1, 4]), (1, [1, 4]), (2, [1, 4]), (3, [4]), (5, [4]), (6, [])])
def test_behind_a_number_means_the_run_that_it_is_in_the_middle_of_too(
    store: SqliteStore, reader: SqliteReader, after: int, found: list[int]
) -> None:
    write(store, run(1, 3), run(4, 3))
    assert firsts(reader, A, after) == found


def test_such_a_run_is_found_behind_runs_of_others_too(store: SqliteStore, reader: SqliteReader) -> None:
    write(store, run(1, 3, A), run(4, 3, B), run(7, 3, B), run(10, 3, A))
    assert firsts(reader, A, 2) == [1, 10]
    assert firsts(reader, A, 8) == [10]
    assert firsts(reader, B, 8) == [7]


def test_a_read_brings_at_least_one_run_and_ends_with_the_one_that_fills_it(
    store: SqliteStore, reader: SqliteReader
) -> None:
    write(store, *[run(number, size=1000) for number in range(1, 6)])
    assert firsts(reader, A, 0, 1) == [1]
    assert firsts(reader, A, 0, 1500) == [1, 2]
    assert firsts(reader, A, 2, 1500) == [3, 4]


def test_what_is_left_is_summed_up_by_destinations(store: SqliteStore, reader: SqliteReader) -> None:
    write(store, run(1, 3), run(4, 2, size=5), run(6, 1, B))
    assert reader.total(A, 0) == Sum(5, 40, 5)
    assert reader.total(A, 3) == Sum(2, 10, 5)
    assert reader.total(A, 2) == Sum(5, 40, 5)  # the first is not over yet
    assert reader.total(A, 5) == Sum(0, 0, 0)


def test_the_oldest_is_that_of_the_destination(store: SqliteStore, reader: SqliteReader) -> None:
    write(store, run(1, 1, B, at=1.0), run(2, 1, A, at=2.0), run(3, 1, A, at=3.0))
    assert reader.oldest(A, 0) == 2.0
    assert reader.oldest(A, 2) == 3.0
    assert reader.oldest(A, 3) is None


def test_what_nobody_needs_any_more_is_gone(store: SqliteStore, reader: SqliteReader) -> None:
    write(store, run(1, 3), run(4, 3), run(7, 1, BOTH))
    write(store, ConsumedRow(A, 5))
    assert firsts(reader, A, 0) == [4, 7]  # of the second run something is needed still
    write(store, ConsumedRow(A, 6))
    assert firsts(reader, A, 0) == [7]


def test_reading_does_not_hold_up_commits_and_sees_them_at_once(store: SqliteStore, reader: SqliteReader) -> None:
    for number in range(1, 20):
        write(store, run(number))
        assert firsts(reader, A, number - 1) == [number]


def test_after_a_failure_it_is_opened_anew(store: SqliteStore, reader: SqliteReader, tmp_path: Path) -> None:
    away = tmp_path / "away"
    (tmp_path / DATABASE).rename(away)
    with pytest.raises(FileNotFoundError):
        reader.masks()
    away.rename(tmp_path / DATABASE)
    write(store, run(1))
    assert reader.masks() == [A]


def test_it_never_writes(reader: SqliteReader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._rows("DELETE FROM runs")


@pytest.mark.parametrize(
    "damage",
    [
        "first = 6", "last = 6", "last = 1000", "last = 'x'", "mask = 3", "epoch = 2", "epoch = 'x'", "at = 1.0",
        "at = ''", "messages = 2", "messages = 1000000000000", "messages = x'00'", "size = 31", "size = 'x'",
        "data = 'text'",
    ],
)  # fmt: skip
def test_X15_damage_beside_the_messages_shows_as_damaged_messages_or_does_not_matter(
    store: SqliteStore, reader: SqliteReader, tmp_path: Path, damage: str
) -> None:
    row = run(5, 3, at=123.5)
    write(store, run(1, 4), row)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as other, other:
        other.execute(f"UPDATE runs SET {damage} WHERE first = 5")  # noqa: S608 - our own words
    reader.highest(), reader.total(A, 0), reader.masks(), reader.oldest(A, 0)
    good, bad = reader.runs(A, 0, 1_000_000)
    assert None not in good.decode()
    assert 1 <= bad.messages <= len(row.data)
    healed = damage in {"last = 1000", "last = 'x'", "messages = 1000000000000", "messages = x'00'"}
    assert bad.decode() == (decode_all(row) if healed else [None] * bad.messages)


def test_X15_bytes_that_damage_takes_for_text_are_read_all_the_same(
    store: SqliteStore, reader: SqliteReader, tmp_path: Path
) -> None:
    row = run(5, 3)
    write(store, row)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as other, other:
        other.execute("UPDATE runs SET data = CAST(data AS TEXT)")
    (found,) = reader.runs(A, 0, 1)
    assert found.decode() == decode_all(row)
