import sqlite3
from pathlib import Path

import pytest

from mqttproxy import sqlite
from mqttproxy.recorder.reading import Playback
from mqttproxy.recorder.tape import DATABASE, recorder_dir
from tests.recorder.examples import NOW, make, rows
from tests.recorder.test_tape import Clock, tape_in


def test_a_message_is_found_by_its_identifier_or_its_row_while_the_recorder_writes(tmp_path: Path) -> None:
    tape = tape_in(tmp_path)
    recorded = make(5, payload=b"\x00\xff", topic="a/b", attributes={"fw": "2"})
    tape.write([(None, *rows(make())[0][1:]), *rows(recorded)], {})
    with Playback(tmp_path) as playback:
        found = playback.get("gw.1.5")
        assert found is not None
        assert (found.id, found.topic, found.payload, found.told) == ("gw.1.5", "a/b", b"\x00\xff", recorded.told)
        first = playback.get("r1")
        assert first is not None
        assert (first.id, first.name) == (None, "r1")
        assert [playback.get(name) for name in ("gw.1.6", "r3", "r", "1", "r" + "9" * 30)] == [None] * 5
    tape.close()


def test_of_several_with_the_same_identifier_the_newest_is_found(tmp_path: Path) -> None:
    tape = tape_in(tmp_path)
    tape.write(rows(make(1, payload=b"old"), make(1, payload=b"new")), {})
    tape.close()
    with Playback(tmp_path) as playback:
        found = playback.get("gw.1.1")
        assert found is not None
        assert found.payload == b"new"


def test_messages_are_read_from_a_moment_on_and_by_topic(tmp_path: Path) -> None:
    tape = tape_in(tmp_path)
    tape.write(rows(make(1, topic="a"), make(2, at=NOW + 5, topic="a/b"), make(3, at=NOW + 9, topic="$x/b")), {})
    tape.close()
    with Playback(tmp_path) as playback:
        assert [one.id for one in playback.since(NOW + 5)] == ["gw.1.2"]
        assert [one.id for one in playback.since(0, ["a/#"])] == ["gw.1.1", "gw.1.2"]
        assert [one.id for one in playback.since(0, ["+", "$x/#"])] == ["gw.1.1", "gw.1.3"]


def test_where_nothing_was_recorded_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Playback(tmp_path)
    recorder_dir(tmp_path).mkdir()
    (recorder_dir(tmp_path) / DATABASE).touch()
    with pytest.raises(FileNotFoundError, match="nothing was recorded yet"):
        Playback(tmp_path)


def test_a_row_that_is_damaged_is_told(tmp_path: Path) -> None:
    tape = tape_in(tmp_path)
    tape.write(rows(make(1)), {})
    tape.close()
    with sqlite3.connect(recorder_dir(tmp_path) / DATABASE) as connection:
        connection.execute("UPDATE messages SET told = '{'")
    connection.close()
    with Playback(tmp_path) as playback, pytest.raises(sqlite.BrokenDatabaseError, match="message r1 is damaged"):
        playback.get("r1")


def test_what_was_left_out_is_told_from_a_minute_on(tmp_path: Path) -> None:
    clock = Clock()
    tape = tape_in(tmp_path, clock, max_age=150.0)
    tape.write(rows(make(1)), {"rate": 3, "percent": 1})
    clock.now += 60
    tape.write([], {"rate": 2})
    tape.write([], {"rate": 5})
    with Playback(tmp_path) as playback:
        assert playback.left_out(NOW) == {"rate": 10, "percent": 1}
        assert playback.left_out(NOW + 60) == {"rate": 7}
        clock.now += 150
        tape.tidy()
        assert playback.left_out(0) == {"rate": 7}
    tape.close()
