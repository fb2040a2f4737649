import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from sqlite_utils import Database

from mqttproxy.config.model import Bytes, Count, QuarantineSettings
from mqttproxy.quarantine import owners, writer as writing
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.database import DATABASE
from mqttproxy.quarantine.filters import Filters
from mqttproxy.quarantine.model import Held
from mqttproxy.quarantine.owners import Quota, owner_of, quota_of
from mqttproxy.quarantine.payloads import FOLDER
from mqttproxy.quarantine.schema import migrations
from mqttproxy.quarantine.writer import SLICE, Writer
from tests.quarantine.examples import NOW, SETTINGS, Disk, files_in, io_error, make_held, make_writer
from tests.quarantine.test_schema import plan

TEN_OF_A_HUNDRED = QuarantineSettings(client_share=0.1, max_messages=Count(100))


def held_by(owner: str, count: int, **changes: Any) -> list[Held]:
    """Return messages of one owner, the oldest first."""
    return [make_held(owner=owner, at=NOW + number, **changes) for number in range(count)]


def tidy_all(writer: Writer) -> dict[str, int]:
    """Do all housekeeping that is overdue; return what it removed."""
    removed: dict[str, int] = {}
    while writer.overdue():
        for bound, count in writer.tidy().expired.items():
            removed[bound] = removed.get(bound, 0) + count
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


def test_G10_one_client_washes_out_its_own_and_nothing_of_others(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
    others = [held for number in range(8) for held in held_by(f"user:{number}", 10)]
    writer.commit(others)
    flood = held_by("user:evil", 700)
    for start in range(0, 700, 70):
        writer.commit(flood[start : start + 70])
        assert tidy_all(writer) == {"age": 0, "count": 0, "bytes": 0, "quota": 60 if start == 0 else 70}
    assert writer.messages == 90
    writer.close()
    assert identifiers(tmp_path) == ids(others) | ids(flood[-10:])
    assert counted(tmp_path)["user:evil"][0] == 10


def test_G10_a_flood_that_fills_the_whole_at_once_costs_others_nothing(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
    others = held_by("user:ada", 5)
    flood = held_by("address:192.0.2.66", 2 * SLICE + 17)
    writer.commit(others + flood)
    assert tidy_all(writer)["quota"] == 2 * SLICE + 7
    writer.close()
    assert identifiers(tmp_path) == ids(others) | ids(flood[-10:])


def test_G10_new_client_identifiers_do_not_help(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
    owner = owner_of("whatever it says", "192.0.2.66", "plain", is_authenticated=False)
    flood = [evolve(held, client_id=f"c{number}") for number, held in enumerate(held_by(owner, 50))]
    writer.commit(flood)
    tidy_all(writer)
    writer.close()
    assert identifiers(tmp_path) == ids(flood[-10:])


def test_G10_the_quota_by_bytes_removes_as_few_as_possible_and_their_files(tmp_path: Path) -> None:
    settings = QuarantineSettings(client_share=0.1, max_bytes=Bytes(2500), inline_bytes=Bytes(10))
    writer = make_writer(tmp_path, settings)
    batch = held_by("user:ada", 6, payload=b"x" * 100, failures=())
    writer.commit(batch)
    assert writer.tidy().owner == "user:ada"
    assert not writer.overdue()
    assert (writer.messages, writer.size_bytes) == (2, 200)
    assert len(list(files_in(tmp_path / FOLDER))) == 2
    writer.close()
    assert identifiers(tmp_path) == ids(batch[-2:])


def test_the_newest_of_an_owner_is_kept_however_large(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, QuarantineSettings(client_share=0.1, max_bytes=Bytes(1000)))
    batch = held_by("user:ada", 2, payload=b"x" * 400, failures=())
    writer.commit(batch)
    tidy_all(writer)
    writer.close()
    assert identifiers(tmp_path) == ids(batch[-1:])


def test_what_whole_bounds_and_commands_remove_is_counted_off(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(TEN_OF_A_HUNDRED, client_share=0.5))
    writer.commit(held_by("user:a", 40) + held_by("user:b", 40, client_id="b") + held_by("user:c", 40))
    assert tidy_all(writer)["count"] == 20
    counted(tmp_path)
    with Archive(tmp_path, writable=True) as archive:
        archive.purge(Filters(client_id="b"))
    assert set(counted(tmp_path)) == {"user:a", "user:c"}
    writer.close()


def test_who_is_over_is_found_again_after_a_restart_and_after_a_reload(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(TEN_OF_A_HUNDRED, client_share=1.0))
    batch = held_by("user:a", 50)
    writer.commit(batch)
    assert not writer.overdue()
    writer.close()
    again = make_writer(tmp_path, evolve(TEN_OF_A_HUNDRED, client_share=0.2))
    again.open()
    assert again.overdue()
    assert tidy_all(again)["quota"] == 30
    again.settings = TEN_OF_A_HUNDRED
    assert again.tidy().expired["quota"] == 10
    assert not again.overdue()
    again.close()
    assert identifiers(tmp_path) == ids(batch[-10:])


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
    assert "held_by_owner (owner=?" in plan(writing._OLDEST_OF.replace("?", "1"))
    assert "PRIMARY KEY (owner=?" in plan(owners._HAS.replace("?", "1"))
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
    writer = make_writer(tmp_path, TEN_OF_A_HUNDRED)
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
