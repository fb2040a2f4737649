import sqlite3
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from mqttproxy.config.model import Count
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.filters import Filters
from mqttproxy.quarantine.fingerprint import DEVICES_KEPT, fingerprint, normalise
from mqttproxy.quarantine.issues import Issue, device_name, fingerprints
from tests.quarantine.examples import NOW, SETTINGS, Disk, io_error, make_held, make_writer

names = st.text(alphabet="abc~é -0", min_size=1).filter(lambda name: not name.isdigit())
indices = st.integers(0, 10**20).map(str)
pointers = st.lists(names | indices).map(lambda parts: "".join(f"/{part}" for part in parts))


def issues_in(directory: Path) -> dict[str, Issue]:
    with Archive(directory) as archive:
        return {issue.pointer: issue for issue in archive.issues()}


@given(pointers)
def test_a_normalised_pointer_stays_as_it_is(pointer: str) -> None:
    assert normalise(normalise(pointer)) == normalise(pointer)
    assert normalise(pointer).count("/") == pointer.count("/")


@given(st.text())
def test_any_text_can_be_normalised(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.lists(names | indices), st.data())
def test_places_in_arrays_do_not_tell_issues_apart_and_names_do(parts: list[str], data: st.DataObject) -> None:
    others = [data.draw(indices) if part.isdigit() else part for part in parts]
    pointer, other = ("".join(f"/{part}" for part in path) for path in (parts, others))
    assert fingerprint("p", "s@1", pointer, "type") == fingerprint("p", "s@1", other, "type")
    assert fingerprint("p", "s@1", pointer, "type") != fingerprint("p", "s@1", f"{pointer}/more", "type")


facts = st.tuples(st.none() | st.text(), st.none() | st.text(), pointers, st.text())


@given(facts, facts)
def test_different_facts_have_different_fingerprints(
    one: tuple[str | None, str | None, str, str], other: tuple[str | None, str | None, str, str]
) -> None:
    same = (*one[:2], normalise(one[2]), one[3]) == (*other[:2], normalise(other[2]), other[3])
    assert (fingerprint(*one) == fingerprint(*other)) == same


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    assert fingerprint("temperature", "temperature@1", "/values/3", "type") == "4637f41b21dc"


@pytest.mark.parametrize(
    ("pointer", "normal"), [("", ""), ("/0", "/*"), ("/a/12/b", "/a/*/b"), ("/01", "/01"), ("/²", "/²"), ("7", "7")]
)
def test_only_what_may_be_an_index_becomes_a_star(pointer: str, normal: str) -> None:
    assert normalise(pointer) == normal


def test_failures_that_are_alike_are_one_issue_and_a_message_counts_once(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    twice = make_held(failures=(("/v/1", "type", "x"), ("/v/2", "type", "y")), client_id="a", at=NOW + 1)
    writer.commit([twice, make_held(failures=(("/v/3", "type", "z"),), client_id="b", at=NOW + 9)])
    writer.commit([last := make_held(failures=(("/v/4", "type", "z"),), client_id="a", at=NOW + 5)])
    writer.close()
    (issue,) = issues_in(tmp_path).values()
    assert (issue.pointer, issue.keyword, issue.count, issue.devices) == ("/v/*", "type", 3, 2)
    assert (issue.first_seen, issue.last_seen, issue.sample) == (NOW + 1, NOW + 9, last.id)
    assert fingerprints(twice) == [issue.id] * 2


def test_issues_outlive_their_messages(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(SETTINGS, max_messages=Count(1)))
    writer.commit([make_held() for _ in range(5)])
    writer.tidy()
    writer.close()
    assert [issue.count for issue in issues_in(tmp_path).values()] == [5]


def test_devices_are_counted_up_to_a_bound(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    for part in range(3):
        writer.commit([make_held(client_id=f"d{number + part * 40}") for number in range(60)])
    writer.close()
    with Archive(tmp_path) as archive:
        (issue,) = archive.issues()
        assert issue.devices == len(archive.devices(issue.id)) == DEVICES_KEPT
    assert issue.count == 180


def test_the_name_of_a_device_is_short_and_still_its_own() -> None:
    one, other = (device_name(make_held(client_id="x" * 60_000 + end)) for end in "ab")
    assert one != other
    assert len(one) < 120
    assert device_name(make_held(client_id="", listener="upstream:a")) == "upstream:a"


def test_there_are_at_most_as_many_issues_as_the_settings_say(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, evolve(SETTINGS, max_issues=Count(5)))
    writer.commit([make_held(failures=(("/decided", "type", ""),), at=NOW - 9)])
    with Archive(tmp_path, writable=True) as archive:
        (issue,) = archive.issues()
        archive.set_state(issue.id, "muted", NOW)
    writer.commit([make_held(failures=(("/often", "type", ""),), at=NOW - 8) for _ in range(2)])
    for number in range(30):  # one after the other, and all at once
        writer.commit([make_held(failures=((f"/evil{number}", "type", ""),), at=NOW + number)])
    writer.commit([make_held(failures=((f"/more{number}", "type", ""),), at=NOW + 99) for number in range(30)])
    found = issues_in(tmp_path)
    assert len(found) == 5
    assert found.keys() >= {"/decided", "/often"}
    assert writer.issues_forgotten == 32
    writer.close()


def test_issues_are_counted_by_state(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.commit([make_held(failures=(("/a", "type", ""), ("/b", "type", "")))])
    writer.tidy()
    assert writer.issues == {"open": 2, "muted": 0, "resolved": 0, "regressed": 0}
    writer.close()


@pytest.mark.parametrize("committed", [False, True])
def test_a_commit_that_is_tried_again_counts_once(tmp_path: Path, committed: bool) -> None:
    disk = Disk()
    writer = make_writer(tmp_path, connect=disk.connect)
    batch = [make_held(), make_held()]
    where = disk.after if committed else disk.before
    where["COMMIT"] = io_error()
    with pytest.raises(sqlite3.OperationalError):
        writer.commit(batch)
    where.clear()
    writer.commit([*batch, make_held()])
    writer.close()
    (issue,) = issues_in(tmp_path).values()
    assert issue.count == 3


def test_where_several_policies_found_something_each_failure_belongs_to_its_own(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    failures = (("/a", "type", "x"), ("", "size", "y"))
    held = make_held(policy="first", failures=failures, blamed=(("first", "s@1"), ("second", None)))
    writer.commit([held, make_held(policy="first")])
    writer.close()
    with Archive(tmp_path) as archive:
        found = {(issue.policy, issue.schema, issue.keyword) for issue in archive.issues()}
        (record,) = archive.search(Filters(policy="second"))
        assert archive.total(Filters(policy="first")).messages == 2
    assert found >= {("first", "s@1", "type"), ("second", None, "size")}
    assert (record.id, record.blamed) == (held.id, held.blamed)


def test_what_is_known_of_the_sender_comes_back(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.commit([make_held(attributes={"model": "x"}, is_masked=True)])
    writer.close()
    with Archive(tmp_path) as archive:
        (record,) = archive.search(Filters())
    assert (record.attributes, record.is_masked) == ({"model": "x"}, True)
