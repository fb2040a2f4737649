"""Who a retained message is for, where it does not say which asking brought it."""

from mqttproxy.upstream.askers import ASKINGS_LIMIT, PATIENCE, Askers


def test_the_first_copy_is_for_all_who_asked_and_the_second_for_nobody() -> None:
    askers = Askers()
    askers.note("a/#", ("one",), 0.0)
    askers.note("a/+", ("two", "three"), 0.0)
    askers.note("b", ("four",), 0.0)
    assert sorted(map(str, askers.claim("a/x", 1.0))) == ["one", "three", "two"]
    assert askers.claim("a/x", 1.0) == []
    assert askers.claim("a/y/z", 1.0) == ["one"]


def test_who_has_had_it_does_not_get_it_when_another_asks() -> None:
    askers = Askers()
    askers.note("a", ("one",), 0.0)
    assert askers.claim("a", 0.0) == ["one"]
    askers.note("a", ("two",), 1.0)
    assert askers.claim("a", 1.0) == ["two"]


def test_who_has_heard_it_live_does_not_get_an_older_one() -> None:
    askers = Askers()
    askers.saw("a", 0.0)
    askers.note("a", ("one",), 0.0)
    askers.saw("a", 0.0)
    askers.note("a", ("two",), 1.0)
    assert askers.claim("a", 1.0) == ["two"]


def test_an_asking_is_over_some_time_after_the_last_message_for_it() -> None:
    askers = Askers()
    askers.note("#", ("one",), 0.0)
    assert askers.claim("a", PATIENCE) == ["one"]
    assert askers.claim("b", 2 * PATIENCE) == ["one"]
    assert askers.claim("c", 3 * PATIENCE + 1) == []
    assert not askers._asked
    assert askers._topics == 0


def test_only_the_latest_askings_are_remembered() -> None:
    askers = Askers()
    for number in range(ASKINGS_LIMIT + 1):
        askers.note("a", (number,), 0.0)
    assert sorted(map(str, askers.claim("a", 0.0)), key=int) == [str(number) for number in range(1, ASKINGS_LIMIT + 1)]
    askers.note("a", ("late",), PATIENCE + 1)
    assert len(askers._asked) == 1
    assert len(askers._tree) == 1
