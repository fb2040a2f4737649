import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from mqttproxy.mqtt.packets import Properties
from mqttproxy.mqtt.topics import matches
from mqttproxy.quarantine.archive import Archive, Total
from mqttproxy.quarantine.database import DATABASE
from mqttproxy.quarantine.filters import Filters
from mqttproxy.quarantine.model import Held
from mqttproxy.quarantine.payloads import FOLDER
from mqttproxy.quarantine.retention import SLICE
from tests.quarantine.examples import NOW, SMALL_INLINE, damage, files_in, make_held, make_writer

LARGE = b"larger than ten bytes"
TOPICS = ("a", "a/b", "a/b/c", "a.b", "a0", "ab", "/a", "/", "$a/b", "b/é", "a/")
PATTERNS = (*TOPICS, "#", "+", "a/#", "a/+", "+/b", "a/+/c", "/+", "+/+", "$a/#", "$a/+", "b/+", "a/b/#", "+/#")


def stored(directory: Path, *held: Held) -> None:
    writer = make_writer(directory, SMALL_INLINE)
    writer.commit(held)
    writer.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Held]]:
    """Return a quarantine of messages of every kind, and the same in the order of their times."""
    directory = tmp_path_factory.mktemp("many")
    failures = (("/a", "type", "is not a number"), ("/b/0", "maximum", "50% is 'too' much"), ("", "json", "line 1\0"))
    held = [
        make_held(
            at=NOW + number % 17,
            topic=TOPICS[number % len(TOPICS)],
            client_id=f"dev-{number % 5}",
            policy=(None, "p", "q")[number % 3],
            failures=failures[: number % 4],
        )
        for number in range(700)
    ]
    stored(directory, *held)
    return directory, sorted(held, key=lambda one: one.at)


def fits(held: Held, filters: Filters) -> bool:
    return (
        (filters.since is None or held.at >= filters.since)
        and (filters.until is None or held.at < filters.until)
        and (filters.topic is None or matches(filters.topic, held.topic))
        and (filters.client_id is None or held.client_id == filters.client_id)
        and (filters.policy is None or held.policy == filters.policy)
        and (filters.failure is None or any(filters.failure in part for failure in held.failures for part in failure))
    )


@given(
    st.builds(
        Filters,
        since=st.none() | st.integers(-1, 18).map(lambda seconds: NOW + seconds),
        until=st.none() | st.integers(-1, 18).map(lambda seconds: NOW + seconds),
        topic=st.none() | st.sampled_from(PATTERNS),
        client_id=st.none() | st.sampled_from(["dev-1", "dev-4", "dev", "\udc80"]),
        policy=st.none() | st.sampled_from(["p", "q", ""]),
        failure=st.none() | st.sampled_from(["type", "/b", "%", "50%", "'", "_", "\0", "TYPE", ""]),
    ),
    st.none() | st.integers(1, 600),
)
def test_a_search_finds_what_looking_at_every_message_finds(
    many: tuple[Path, list[Held]], filters: Filters, limit: int | None
) -> None:
    directory, held = many
    expected = [one.id for one in held if fits(one, filters)]
    with Archive(directory) as archive:
        assert archive.total(filters).messages == len(expected)
        found = [record.id for record in archive.search(filters, limit=limit, oldest_first=True)]
        assert found == expected[:limit]
        newest_first = [record.id for record in archive.search(filters, limit=limit)]
        assert newest_first == expected[::-1][:limit]


def test_a_record_tells_everything(tmp_path: Path) -> None:
    held = make_held(
        properties=Properties(correlation_data=b"\x00\xff", user_properties=(("k", "v"), ("k", "w"))),
        failures=(("/a", "type", "x"), ("/b", "enum", "y")),
        username=None,
    )
    stored(tmp_path, held)
    with Archive(tmp_path) as archive:
        record = archive.get(held.id)
        assert record is not None
        assert record.properties == held.properties
        assert record.failures == held.failures
        assert record.username is None
        assert archive.get("unknown") is None
        assert archive.get("\udc80") is None


def test_payloads_are_read_from_the_row_or_from_their_file(tmp_path: Path) -> None:
    stored(tmp_path, make_held(payload=b"small", at=NOW), make_held(payload=LARGE, at=NOW + 1))
    with Archive(tmp_path) as archive:
        assert [archive.payload(record) for record in archive.search(Filters())] == [LARGE, b"small"]
        assert archive.total(Filters()) == Total(2, 5 + len(LARGE))


def test_a_message_that_goes_while_it_is_looked_at_has_no_payload(tmp_path: Path) -> None:
    stored(tmp_path, make_held(payload=b"small"), make_held(payload=LARGE))
    with Archive(tmp_path, writable=True) as archive:
        records = list(archive.search(Filters()))
        archive.purge(Filters())
        assert [archive.payload(record) for record in records] == [None, None]


def test_a_payload_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    stored(tmp_path, make_held(payload=LARGE))
    for file in (tmp_path / FOLDER).iterdir():
        file.unlink()
    with Archive(tmp_path) as archive, pytest.raises(FileNotFoundError):
        archive.payload(next(archive.search(Filters())))


def test_a_purge_removes_what_fits_and_its_files_and_nothing_else(tmp_path: Path) -> None:
    stored(
        tmp_path,
        *(make_held(client_id="bad", payload=LARGE) for _ in range(SLICE + 1)),
        good := make_held(client_id="good", payload=LARGE),
    )
    with Archive(tmp_path, writable=True) as archive:
        assert archive.purge(Filters(client_id="bad")) == SLICE + 1
        assert [record.id for record in archive.search(Filters())] == [good.id]
    assert len(list(files_in(tmp_path / FOLDER))) == 1
    connection = sqlite3.connect(tmp_path / DATABASE)
    assert connection.execute("SELECT count(*) FROM failures").fetchone() == (1,)
    connection.close()


def test_a_purge_does_not_touch_what_arrives_meanwhile(tmp_path: Path) -> None:
    stored(tmp_path, *(make_held() for _ in range(SLICE + 1)))
    writer = make_writer(tmp_path)

    class Busy(Archive):
        def _pages(self, *arguments: object, **options: object) -> Iterator[list[dict[str, object]]]:
            for page in super()._pages(*arguments, **options):  # type: ignore[arg-type]  # passed on as they come
                writer.commit([make_held(at=NOW + 5)])
                yield page

    with Busy(tmp_path, writable=True) as archive:
        assert archive.purge(Filters()) == SLICE + 1
    assert writer._number("SELECT count(*) FROM held") == 2
    writer.close()


def test_a_reader_cannot_purge(tmp_path: Path) -> None:
    stored(tmp_path, make_held())
    with Archive(tmp_path) as archive, pytest.raises(sqlite3.OperationalError, match="readonly"):
        archive.purge(Filters())


def test_a_missing_quarantine_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Archive(tmp_path)
    (tmp_path / FOLDER).mkdir()
    with pytest.raises(FileNotFoundError):
        Archive(tmp_path)


def test_a_damaged_quarantine_is_told(tmp_path: Path) -> None:
    stored(tmp_path, *(make_held() for _ in range(100)))
    damage(tmp_path / DATABASE)
    with pytest.raises(sqlite3.DatabaseError), Archive(tmp_path) as archive:
        list(archive.search(Filters()))
