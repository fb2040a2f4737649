"""Which subscription identifiers are known, and for how long."""

import pytest

from mqttproxy.mqtt.packets import RetainHandling
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream import interest as module
from mqttproxy.upstream.bell import Bell
from mqttproxy.upstream.interest import COPY, EVERYBODY, Asking, Interest


def told(interest: Interest) -> list[Asking]:
    """Tell the broker everything, which grants it."""
    askings = []
    for packet_id, asking in enumerate(interest.askings(), 1):
        interest.sent(packet_id, asking)
        askings.append(asking)
    for packet_id in range(1, len(askings) + 1):
        interest.answered(packet_id, ReasonCode.SUCCESS)
    return askings


def test_a_former_identifier_is_known_until_too_many_came_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMER_LIMIT", 2)
    interest = Interest(Bell())
    for number in range(4):
        interest.add("a", 0, number)
        told(interest)
    assert interest.asking_of(1) is None
    assert [asking.retained_for for number in (2, 3, 4) if (asking := interest.asking_of(number))] == [(1,), (2,), (3,)]
    interest.add("b", 0, 9)
    told(interest)
    for _ in range(4):
        interest.remove("a")
    assert interest.asking_of(2) is None  # the filter's last one is a former one now
    assert interest.asking_of(4) is not None
    assert interest.asking_of(5) is not None
    assert len(interest._askings) == 3


def test_identifiers_go_round_past_those_that_are_known() -> None:
    interest = Interest(Bell(), module.HIGHEST_NUMBER - 1)
    interest.add("a", 0)
    assert [asking.identifier for asking in told(interest)] == [module.HIGHEST_NUMBER]
    interest.add("b", 0)
    assert [asking.identifier for asking in told(interest)] == [1]
    interest._given = module.HIGHEST_NUMBER
    interest.add("c", 0)
    assert [asking.identifier for asking in told(interest)] == [2]


def test_a_refused_filter_is_asked_for_again_and_a_granted_one_is_not() -> None:
    interest = Interest(Bell())
    interest.add("a", 1)
    (asking,) = interest.askings()
    assert asking.want is not None
    asking.want.answer(asking.number, ReasonCode.NOT_AUTHORIZED)
    assert not interest.is_active("a")
    interest.add("a", 1)
    assert len(told(interest)) == 1
    assert interest.is_active("a")
    interest.add("a", 1)
    assert not interest.has_news


@pytest.mark.parametrize("present", [True, False])
def test_who_still_waits_is_asked_for_again_over_the_next_link(present: bool) -> None:
    interest = Interest(Bell())
    interest.add("told", 0, "one")
    told(interest)
    for name in ("told", "sent"):
        interest.add(name, 0, "two")
    for packet_id, asking in enumerate(interest.askings(), 1):
        interest.sent(packet_id, asking)  # and never answered
    interest.add("sent", 0, "three")
    interest.begin(session_present=present)
    waiting = {asking.topic_filter: asking.retained_for for asking in told(interest)}
    assert waiting == {"told": ("two",) if present else ("two", EVERYBODY), "sent": ("two", "three")}
    assert (interest.asking_of(1) is not None) is present


def test_nothing_retained_is_asked_for_with_shared_filters_when_the_session_was_lost() -> None:
    interest = Interest(Bell())
    for name in ("$share/g/a", "a"):
        interest.add(name, 0)
    told(interest)
    interest.begin(session_present=False)
    asked = {asking.topic_filter: asking.retain_handling for asking in told(interest)}
    assert asked == {"$share/g/a": RetainHandling.DO_NOT_SEND, "a": RetainHandling.SEND}


def test_what_an_earlier_process_subscribed_to_is_wanted_until_all_has_come_that_was_queued_before() -> None:
    interest = Interest(Bell(), 1000)
    interest.begin(session_present=True)
    assert interest.is_adopted
    for name in ("a", "b"):
        interest.add(name, 1)
    assert [asking.identifier for asking in told(interest)] == [1001, 1002]
    assert not interest.is_stale((7,), 1)
    assert not interest.is_stale((1001,), 1)
    assert not interest.is_stale((7,), 1)  # may have come for the other filter, before that was asked for again
    assert not interest.is_stale((1002,), 0)
    assert not interest.is_stale((7,), 1)  # QoS 0 may overtake
    assert not interest.is_stale((1003, 1002), 1)
    assert interest.is_stale((7,), 1)
    assert interest.is_stale((1003,), 0)
    assert not interest.is_stale((1001, 7), 1)
    assert not interest.is_stale((), 1)
    interest.begin(session_present=True)  # what was not acknowledged comes again
    assert not interest.is_stale((7,), 1)
    interest.begin(session_present=False)
    assert not interest.is_adopted


def test_a_copy_of_an_earlier_process_is_nobodys_and_ours_are_asked_for_first() -> None:
    interest = Interest(Bell(), module.HIGHEST_NUMBER - 1)
    interest.add("a", 1)
    interest.add("$share/own/a", 1, is_copy=True)
    interest.begin(session_present=True)
    asked = [(asking.topic_filter, asking.identifier) for asking in told(interest)]
    assert asked == [("$share/own/a", COPY | module.HIGHEST_NUMBER), ("a", 1)]
    assert interest.is_stale((COPY | 7,), 1)
    assert not interest.is_stale((COPY | 7, 7), 1)
    assert not interest.is_stale((COPY | module.HIGHEST_NUMBER,), 1)


def test_a_session_that_this_process_began_is_not_adopted_later() -> None:
    interest = Interest(Bell())
    interest.begin(session_present=False)
    interest.begin(session_present=True)
    assert not interest.is_adopted
