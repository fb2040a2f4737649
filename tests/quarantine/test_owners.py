import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from sqlite_utils import Database

from mqttproxy.config.model import Bytes, Count, QuarantineSettings, Seconds
from mqttproxy.quarantine import owners, retention
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.database import DATABASE
from mqttproxy.quarantine.filters import Filters
from mqttproxy.quarantine.model import Held
from mqttproxy.quarantine.owners import Quota, owner_of, quota_of
from mqttproxy.quarantine.payloads import FOLDER
from mqttproxy.quarantine.retention import BOUNDS, SLICE
from mqttproxy.quarantine.schema import migrations
from mqttproxy.quarantine.writer import Tidied, Writer
from tests.quarantine.examples import NOW, SETTINGS, Disk, files_in, io_error, make_held, make_writer
from tests.quarantine.test_schema import plan

TEN_OF_A_HUNDRED = QuarantineSettings(client_share=0.1, max_messages=Count(100))


def held_by(owner: str, count: int, **changes: Any) -> list[Held]:
    """Return messages of one owner, the oldest first."""
    return [make_held(**{"owner": owner, "at": NOW + number, **changes}) for number in range(count)]


def tidy_all(writer: Writer) -> dict[str, int]:
    """Do all housekeeping that is overdue; return what it removed."""
    removed = dict.fromkeys(BOUNDS, 0)
    while writer.overdue():
        for bound, count in writer.tidy().expired.items():
            removed[bound] += count
    return removed


def identifiers(directory: Path) -> set[str]:
    with Archive(directory) as archive:
        return {record.id for record in archive.search(Filters())}


def ids(batch: Sequence[Held]) -> set[str]:
    return {held.id for held in batch}


def counted(directory: Path) -> dict[str, tuple[int, int]]:
    """Return what the database counts for each owner, having made sure that it is what there is."""
    connection = sqlite3.connect(directory / DATABASE)
    found = connection.execute("SELECT owner, messages, bytes FROM owners ORDER BY owner").fetchall()
    sums = connection.execute("SELECT owner, count(*), sum(weight) FROM held GROUP BY owner ORDER BY owner").fetchall()
    connection.close()
    assert found == sums
    return {owner: (messages, size) for owner, messages, size in found}


@pytest.mark.parametrize(
    ("told", "is_authenticated", "expected"),
    [
        (("ada", "192.0.2.7", "plain"), True, "user:ada"),
        (("ada", "192.0.2.7", "plain"), False, "address:192.0.2.7"),
        ((None, "192.0.2.7", "plain"), True, "address:192.0.2.7"),
        ((None, "2001:db8:1:2:3:4:5:6", "plain"), False, "address:2001:db8:1:2::"),
        ((None, "main", "upstream:main"), False, "upstream:main"),
    ],
)
def test_a_message_is_its_users_else_its_addresss(
    told: tuple[str | None, str, str], is_authenticated: bool, expected: str
) -> None:
    assert owner_of(*told, is_authenticated=is_authenticated) == expected


def test_long_names_are_told_apart_and_kept_short() -> None:
    one, other = (owner_of("x" * 60_000 + end, "", "", is_authenticated=True) for end in "ab")
    assert one != other
    assert len(one) < 150


def test_the_quota_is_a_share_of_both_bounds_and_one_is_none() -> None:
    settings = QuarantineSettings(client_share=0.25, max_messages=Count(100), max_bytes=Bytes(1000))
    assert quota_of(settings) == Quota(25, 250)
    assert quota_of(evolve(settings, client_share=1.0)) is None


def test_how_many_shares_something_is_goes_by_the_larger_of_count_and_bytes() -> None:
    assert Quota(10, 1000).shares(20, 500) == 2
    assert Quota(10, 1000).shares(5, 3000) == 3
    assert Quota(0, 0).shares(2, 1) == 2


def test_while_there_is_room_anybody_may_have_more_than_a_share(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
    fleet = held_by("user:fleet", 100)
    for start in range(0, 100, 20):
        writer.commit(fleet[start : start + 20])
        assert not writer.overdue()
        assert writer.tidy() == Tidied(dict.fromkeys(BOUNDS, 0), more=False)
    writer.close()
    assert identifiers(tmp_path) == ids(fleet)


def test_one_that_has_all_keeps_as_much_as_there_is_room_for(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
    fleet = held_by("user:fleet", 140)
    writer.commit(fleet[:100])
    for held in fleet[100:]:
        writer.commit([held])
        assert tidy_all(writer)["quota"] == 1
    writer.close()
    assert identifiers(tmp_path) == ids(fleet[-100:])


def test_G10_one_client_washes_out_its_own_and_nothing_of_others(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
    others = [held for number in range(8) for held in held_by(f"user:{number}", 10)]
    writer.commit(others)
    flood = held_by("user:evil", 700)
    for start in range(0, 700, 70):
        writer.commit(flood[start : start + 70])
        assert tidy_all(writer) == {"age": 0, "count": 0, "bytes": 0, "quota": 50 if start == 0 else 70}
    assert writer.messages == 100
    writer.close()
    assert identifiers(tmp_path) == ids(others) | ids(flood[-20:])
    assert counted(tmp_path)["user:evil"][0] == 20


def test_G10_a_flood_that_fills_the_whole_at_once_costs_others_nothing(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
    others = held_by("user:ada", 5)
    flood = held_by("address:192.0.2.66", 2 * SLICE + 17)
    writer.commit(others + flood)
    first = writer.tidy()
    assert (first.owners, first.more) == ({"address:192.0.2.66": SLICE}, True)
    assert tidy_all(writer)["quota"] == SLICE + 17 - 95
    writer.close()
    assert identifiers(tmp_path) == ids(others) | ids(flood[-95:])


def test_G10_new_client_identifiers_do_not_help(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
    owner = owner_of("whatever it says", "192.0.2.66", "plain", is_authenticated=False)
    flood = [evolve(held, client_id=f"c{number}") for number, held in enumerate(held_by(owner, 120))]
    others = held_by("user:ada", 10)
    writer.commit(others)
    writer.commit(flood)
    tidy_all(writer)
    writer.close()
    assert identifiers(tmp_path) == ids(others) | ids(flood[-90:])


def test_G10_who_has_most_loses_first_and_nobody_what_is_within_the_share(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
    most, more, share = held_by("user:c", 70), held_by("user:a", 20), held_by("user:b", 10)
    writer.commit(more + most + share)
    writer.commit(news := [held for number in range(15) for held in held_by(f"user:new{number}", 4)])
    assert writer.tidy() == Tidied(dict.fromkeys(BOUNDS, 0) | {"quota": 60}, more=False, owners={"user:c": 60})
    writer.commit(newer := held_by("user:d", 5))
    assert writer.tidy().owners == {"user:a": 5}
    writer.close()
    assert identifiers(tmp_path) == ids(most[-10:] + more[-15:] + share + news + newer)


def test_G10_several_that_have_too_much_are_brought_to_their_share_in_one_slice(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
    batches = [held_by(f"user:{number}", 12) for number in range(9)]
    writer.commit([held for batch in batches for held in batch])
    tidied = writer.tidy()
    assert (sum(tidied.owners.values()), tidied.expired["quota"], tidied.more) == (8, 8, False)
    assert set(tidied.owners.values()) == {2}
    assert {messages for messages, _ in counted(tmp_path).values()} == {10, 12}
    writer.close()


def test_a_slice_is_one_for_all_that_goes(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(TEN_OF_A_HUNDRED, max_age=Seconds(100.0)))
    aged = [make_held(owner="user:old", at=NOW - 101) for _ in range(100)]
    writer.commit(aged + held_by("user:a", 350) + held_by("user:b", 300))
    first = writer.tidy()
    assert (first.expired, first.more) == ({"age": 100, "count": 0, "bytes": 0, "quota": SLICE - 100}, True)
    assert first.owners == {"user:a": 340, "user:b": 60}
    assert tidy_all(writer)["quota"] == 150
    writer.close()


def test_who_has_too_much_is_known_after_a_disk_that_failed_housekeeping(tmp_path: Path) -> None:
    disk = Disk()
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED, connect=disk.connect)
    others = held_by("user:ada", 5)
    writer.commit(others)
    writer.commit(flood := held_by("user:evil", 100))
    disk.before["COMMIT"] = io_error()
    with pytest.raises(sqlite3.OperationalError, match="disk I/O"):
        writer.tidy()
    disk.before.clear()
    assert writer.tidy().owners == {"user:evil": 5}
    writer.close()
    assert identifiers(tmp_path) == ids(others) | ids(flood[5:])


def test_once_nobody_has_more_than_a_share_the_oldest_of_all_go(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
    oldest = [make_held(owner="user:old", at=NOW - 9 + number) for number in range(9)]
    batches = [held_by(f"user:{number}", 10) for number in range(9)]
    writer.commit(oldest)
    writer.commit([held for batch in batches for held in batch])
    writer.commit(more := held_by("user:0", 3, topic="more"))
    assert tidy_all(writer) == {"age": 0, "count": 0, "bytes": 0, "quota": 2}
    writer.commit(newcomer := held_by("user:new", 4))
    assert tidy_all(writer) == {"age": 0, "count": 3, "bytes": 0, "quota": 1}
    writer.close()
    rest = [held for batch in batches for held in batch]
    assert identifiers(tmp_path) >= ids(oldest[3:] + newcomer)
    assert identifiers(tmp_path) <= ids(oldest[3:] + newcomer + rest + more)


def test_what_is_too_old_goes_whoever_has_too_much(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(TEN_OF_A_HUNDRED, max_age=Seconds(100.0)))
    aged = [make_held(owner="user:ada", at=NOW - 101) for _ in range(5)]
    flood = held_by("user:evil", 99)
    writer.commit(aged + flood)
    assert writer.tidy().expired == {"age": 5, "count": 0, "bytes": 0, "quota": 0}
    writer.commit(held_by("user:ada", 2))
    assert writer.tidy().expired == {"age": 0, "count": 0, "bytes": 0, "quota": 1}
    writer.close()


def test_too_old_ones_make_room_before_anything_else_goes(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(TEN_OF_A_HUNDRED, max_age=Seconds(100.0)))
    flood = held_by("user:evil", 99)
    writer.commit([make_held(owner="user:ada", at=NOW - 101) for _ in range(SLICE + 3)] + flood)
    assert tidy_all(writer) == {"age": SLICE + 3, "count": 0, "bytes": 0, "quota": 0}
    writer.close()
    assert identifiers(tmp_path) == ids(flood)


def test_G10_the_quota_by_bytes_removes_as_few_as_possible_and_their_files(tmp_path: Path) -> None:
    settings = QuarantineSettings(client_share=0.1, max_bytes=Bytes(450), inline_bytes=Bytes(10))
    writer = make_writer(tmp_path, settings)
    other = held_by("user:bob", 1, payload=b"x" * 40, failures=())
    batch = held_by("user:ada", 6, payload=b"x" * 100, failures=())
    writer.commit(other + batch)
    assert writer.tidy() == Tidied(dict.fromkeys(BOUNDS, 0) | {"quota": 2}, more=False, owners={"user:ada": 2})
    assert not writer.overdue()
    assert (writer.messages, writer.size_bytes) == (5, 440)
    assert len(list(files_in(tmp_path / FOLDER))) == 5
    writer.close()
    assert identifiers(tmp_path) == ids(other + batch[-4:])


def test_a_single_message_is_no_more_than_a_share_however_large(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, QuarantineSettings(client_share=0.1, max_bytes=Bytes(1000)))
    large = held_by("user:ada", 2, payload=b"x" * 600, failures=())
    small = held_by("user:bob", 3, payload=b"x" * 100, failures=())
    writer.commit(small + large)
    assert tidy_all(writer)["quota"] == 1
    writer.close()
    assert identifiers(tmp_path) == ids(small + large[-1:])


def test_what_whole_bounds_and_commands_remove_is_counted_off(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(TEN_OF_A_HUNDRED, client_share=0.5))
    writer.commit(held_by("user:a", 40) + held_by("user:b", 40, client_id="b") + held_by("user:c", 40))
    assert tidy_all(writer)["count"] == 20
    counted(tmp_path)
    with Archive(tmp_path, writable=True) as archive:
        archive.purge(Filters(client_id="b"))
    assert set(counted(tmp_path)) == {"user:a", "user:c"}
    writer.close()


def test_who_has_too_much_is_found_again_after_a_restart_and_after_a_reload(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(TEN_OF_A_HUNDRED, client_share=1.0))
    old = held_by("user:old", 15, topic="old")
    batch = [make_held(owner="user:a", at=NOW + 20 + number) for number in range(50)]
    writer.commit(old + batch)
    assert not writer._retention.over
    writer.close()
    again = make_writer(tmp_path, evolve(TEN_OF_A_HUNDRED, client_share=0.2))
    again.open()
    assert list(again._retention.over) == ["user:a"]
    again.settings = evolve(TEN_OF_A_HUNDRED, max_messages=Count(60), client_share=0.25)
    assert again.tidy().owners == {"user:a": 5}
    again.settings = evolve(again.settings, max_messages=Count(50))
    assert again.tidy().owners == {"user:a": 10}
    assert set(again._retention.over) == {"user:a", "user:old"}
    again.close()
    assert identifiers(tmp_path) == ids(old + batch[-35:])


def test_who_has_too_much_no_longer_is_forgotten(tmp_path: Path) -> None:
    now = NOW
    settings = evolve(TEN_OF_A_HUNDRED, max_age=Seconds(100.0))
    writer = make_writer(tmp_path, settings, now=lambda: now)
    writer.commit(held_by("user:aged", 20) + held_by("user:purged", 20, at=NOW + 90, client_id="p"))
    assert set(writer._retention.over) == {"user:aged", "user:purged"}
    now += 109.5
    assert writer.tidy().expired["age"] == 10
    assert set(writer._retention.over) == {"user:purged"}
    with Archive(tmp_path, writable=True) as archive:
        archive.purge(Filters(client_id="p"))
    writer.tidy()
    assert not writer._retention.over
    writer.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_that_failed_is_counted_once(tmp_path: Path, when: str) -> None:
    disk = Disk()
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED, connect=disk.connect)
    batch = held_by("user:a", 7)
    writer.open()
    getattr(disk, when)["COMMIT"] = io_error()
    with pytest.raises(sqlite3.OperationalError, match="disk I/O"):
        writer.commit(batch)
    getattr(disk, when).clear()
    writer.commit(batch)
    writer.close()
    assert counted(tmp_path)["user:a"][0] == 7


def test_a_commit_does_not_look_through_what_is_held() -> None:
    assert "held_by_owner (owner=?" in plan(retention._OLDEST_OF.replace("?", "1"))
    assert "PRIMARY KEY (owner=?" in plan(owners._HAS.replace("?", "1"))
    assert "INTEGER PRIMARY KEY (rowid=?" in plan(owners._OF.format("1,2"))
    assert "SCAN" not in plan("UPDATE owners SET messages = messages - 1 WHERE owner = 1")


def test_an_existing_database_is_brought_to_the_new_form_and_held_to_the_quota(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    connection = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    migrations.apply(Database(connection), stop_before="m003_owners")
    connection.executemany(
        "INSERT INTO held (seq, id, at, state, client_id, username, address, listener, topic, qos, retain, reason,"
        " weight, payload_size, payload) VALUES"
        " (?, ?, ?, 'held', 'd', ?, '192.0.2.7', 'plain', 't', 1, 0, 153, 2, 2, '{}')",
        [(seq, f"{seq:026}", NOW + seq, "ada" if seq > 20 else None) for seq in range(1, 26)],
    )
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    writer = make_writer(tmp_path, QuarantineSettings(client_share=0.625, max_messages=Count(16)))
    writer.commit([new := make_held(owner="user:ada", at=NOW + 99)])
    assert tidy_all(writer)["quota"] == 10
    writer.close()
    assert identifiers(tmp_path) == {f"{seq:026}" for seq in range(11, 26)} | {new.id}
    assert {owner: messages for owner, (messages, _) in counted(tmp_path).items()} == {
        "address:192.0.2.7": 10,
        "user:ada": 6,
    }


def test_without_a_share_the_oldest_of_all_go_as_before(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(SETTINGS, max_messages=Count(10)))
    old = [make_held(owner="user:a", at=NOW - 5)]
    flood = held_by("user:b", 10)
    writer.commit(old + flood)
    assert tidy_all(writer) == {"age": 0, "count": 1, "bytes": 0, "quota": 0}
    writer.close()
    assert identifiers(tmp_path) == ids(flood)
