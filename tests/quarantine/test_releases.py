"""The record of releases. What a whole release does with it: tests/test_release.py."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqttproxy.quarantine import releases
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.filters import Filters
from mqttproxy.quarantine.fingerprint import fingerprint
from mqttproxy.quarantine.releases import Again, Batch, Order, Outcome
from mqttproxy.quarantine.writer import Writer
from tests.quarantine.examples import NOW, make_held, make_writer

LATER = NOW + 60


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = make_writer(tmp_path)
    yield writer
    writer.close()


def order(writer: Writer, **what: object) -> int:
    made = Order(**{"filters": Filters()} | what)  # type: ignore[arg-type] # each of its own type
    return writer.use(lambda connection, _: releases.add(connection, made, NOW)).number


def claim(writer: Writer, number: int = 1, most: int = 10) -> Batch | None:
    return writer.use(lambda connection, folder: releases.claim(connection, folder, number, most, LATER))


def settle(writer: Writer, outcome: Outcome, number: int = 1) -> None:
    writer.use(lambda connection, _: releases.settle(connection, number, outcome, LATER))


def get(writer: Writer, number: int = 1) -> releases.Release:
    found = writer.use(lambda connection, _: releases.get(connection, number))
    assert found is not None
    return found


def states(directory: Path) -> list[str]:
    with Archive(directory) as archive:
        return [record.state for record in archive.search(Filters(), oldest_first=True)]


def test_what_is_claimed_is_told_whole(writer: Writer, tmp_path: Path) -> None:
    large, small = make_held(payload=b"x" * 100_000, retain=True, destination="a"), make_held(payload=b"1")
    writer.commit([large, small])
    order(writer)
    batch = claim(writer)
    assert batch is not None
    first, second = (claimed.held for claimed in batch.items)
    for held, was in ((first, large), (second, small)):
        for fact in ("id", "at", "client_id", "topic", "payload", "qos", "retain", "properties", "destination"):
            assert getattr(held, fact) == getattr(was, fact)
    assert states(tmp_path) == ["releasing"] * 2


def test_an_order_comes_back_as_it_was_given(writer: Writer) -> None:
    writer.commit([make_held()])
    made = Order(
        filters=Filters(topic="a/#"), recipe="x = 1", destinations=("a",),
        options=releases.Options(ignore_expiry=True), rate=3.0, failure_ratio=0.0,
    )  # fmt: skip
    writer.use(lambda connection, _: releases.add(connection, made, NOW))
    assert get(writer).order == made


def test_claiming_again_without_settling_gives_the_same(writer: Writer) -> None:
    writer.commit([make_held() for _ in range(5)])
    order(writer)
    one, other = claim(writer, most=3), claim(writer, most=3)
    assert one is not None
    assert other is not None
    assert [claimed.seq for claimed in one.items] == [claimed.seq for claimed in other.items]


def test_settling_twice_counts_once(writer: Writer, tmp_path: Path) -> None:
    writer.commit([make_held() for _ in range(3)])
    order(writer)
    claim(writer)
    outcome = Outcome(released=[1], failed={2: Again("p", "s@1", 0x99, (("/a", "type", "x"),))}, upto=2)
    settle(writer, outcome)
    settle(writer, outcome)
    found = get(writer)
    assert (found.released, found.failed, found.cursor) == (1, 1, 2)
    assert states(tmp_path) == ["released", "held", "held"]


def test_what_fails_again_has_an_issue_and_counts_no_message_more(writer: Writer, tmp_path: Path) -> None:
    writer.commit([held := make_held(failures=(("/old", "type", "x"),))])
    order(writer)
    claim(writer)
    settle(writer, Outcome(released=[], failed={1: Again("p", None, 0x99, (("/new/1", "type", "y"),))}, upto=1))
    with Archive(tmp_path) as archive:
        found = {issue.pointer: issue for issue in archive.issues()}
        (record,) = archive.search(Filters(issue=fingerprint("p", None, "/new/2", "type")))
    assert {pointer: issue.count for pointer, issue in found.items()} == {"/old": 1, "/new/*": 1}
    assert found["/new/*"].sample == record.id == held.id


def test_a_release_ends_when_all_was_looked_at(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "WINDOW", 2)
    writer.commit([make_held(topic="x" if number < 6 else "y") for number in range(8)])
    order(writer, filters=Filters(topic="y"))
    writer.commit([make_held(topic="y")])  # later than the order
    seen: list[int] = []
    while (batch := claim(writer)) is not None:
        seen += [claimed.seq for claimed in batch.items]
        settle(writer, Outcome(released=[claimed.seq for claimed in batch.items], failed={}, upto=batch.upto))
    assert seen == [7, 8]
    assert (get(writer).state, get(writer).ended_at, get(writer).total) == ("done", LATER, 2)


def test_one_that_is_cancelled_is_claimed_no_more_and_still_settled(writer: Writer) -> None:
    writer.commit([make_held(), make_held()])
    number = order(writer)
    claim(writer, most=1)
    assert writer.use(lambda connection, _: releases.cancel(connection, number, LATER))
    settle(writer, Outcome(released=[1], failed={}, upto=1))
    assert claim(writer) is None
    found = get(writer)
    assert (found.state, found.released, found.ended_at) == ("cancelled", 1, LATER)
    assert not writer.use(lambda connection, _: releases.cancel(connection, number, LATER))


def test_the_oldest_order_is_next(writer: Writer) -> None:
    def next_one() -> int | None:
        return writer.use(lambda connection, _: releases.next_one(connection))

    writer.commit([make_held()])
    assert next_one() is None
    first, second = order(writer), order(writer)
    assert next_one() == first
    writer.use(lambda connection, _: releases.cancel(connection, first, NOW))
    assert next_one() == second


def test_after_a_kill_the_journal_says_what_was_let_go(writer: Writer, tmp_path: Path) -> None:
    held = [make_held() for _ in range(3)]
    writer.commit(held)
    order(writer)
    claim(writer)
    named = {held[0].id, "one that was purged"}
    assert writer.use(lambda connection, _: releases.recover(connection, named, LATER)) == 1
    assert writer.use(lambda connection, _: releases.recover(connection, named, LATER)) == 0
    assert states(tmp_path) == ["released", "held", "held"]
    assert get(writer).released == 1
    batch = claim(writer)
    assert batch is not None
    assert [claimed.seq for claimed in batch.items] == [2, 3]


def test_a_transaction_is_whole_or_nothing(writer: Writer) -> None:
    writer.commit([make_held()])

    def half(connection: sqlite3.Connection, _: object) -> None:
        with releases.transaction(connection):
            connection.execute("DELETE FROM held")
            raise LookupError

    with pytest.raises(LookupError):
        writer.use(half)
    assert writer.use(lambda connection, _: connection.execute("SELECT count(*) FROM held").fetchone()) == (1,)
