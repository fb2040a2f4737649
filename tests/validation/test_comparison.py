import pytest
from hypothesis import given, strategies as st

from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Action, Failure, Verdict
from mqttproxy.validation.comparison import CELLS, PASSES, Comparison, Outcome, cell_of, outcome_of
from mqttproxy.validation.verdict import join

LOW = Failure("/value", "minimum", "-300 is less than -273")
LATE = Failure("/at", "format", "not a date-time")


def failed(policy: str | None, *failures: Failure, observed: bool = False) -> Verdict:
    action = Action.FORWARD if observed else Action.HOLD
    return Verdict(
        action=action, policy=policy, failures=failures, reason=ReasonCode.PAYLOAD_FORMAT_INVALID, observed=observed
    )


FAILS = Outcome(("temperature",), (LOW,))


@pytest.mark.parametrize(
    ("now", "then", "cell"),
    [
        (PASSES, PASSES, "both_pass"),
        (PASSES, FAILS, "would_break"),
        (FAILS, PASSES, "would_heal"),
        (FAILS, FAILS, "both_fail"),
    ],
)
def test_each_pair_of_outcomes_has_its_cell(now: Outcome, then: Outcome, cell: str) -> None:
    comparison = Comparison()
    assert cell_of(now, then) == comparison.add(now, then, device="d", attributes={}) == cell
    assert comparison.total.as_document() == {name: int(name == cell) for name in CELLS}


def test_a_message_that_only_observing_policies_fail_passes_unless_they_are_asked_for() -> None:
    verdict = failed("watched", LOW, observed=True)
    assert outcome_of(verdict) == PASSES
    assert outcome_of(verdict, with_observed=True) == Outcome(("watched",), (LOW,))


def test_an_outcome_names_each_policy_that_decided_and_none_that_only_observed() -> None:
    verdict = join([failed("a", LOW), failed("b", LATE), failed("watched", LOW, observed=True)])
    assert outcome_of(verdict) == Outcome(("a", "b"), (LOW, LATE))


def test_topic_rules_fail_messages_in_no_policys_name() -> None:
    assert outcome_of(failed(None, LOW)).policies == ("",)


def test_a_message_is_counted_once_for_each_policy_pointer_device_and_attribute() -> None:
    comparison = Comparison()
    then = Outcome(("a", "b"), (LOW, LATE, LOW))
    comparison.add(PASSES, then, device="d-1", attributes={"firmware": "2.1", "site": "north"})
    comparison.add(PASSES, PASSES, device="d-2", attributes={"firmware": "2.1"})
    rows = {
        axis: {key: row.as_document() for key, row in table.rows.items()} for axis, table in comparison.tables.items()
    }
    once = {"both_pass": 0, "would_break": 1, "would_heal": 0, "both_fail": 0}
    assert rows == {
        "policy": {"a": once, "b": once},
        "pointer": {"/value": once, "/at": once},
        "device": {"d-1": once},
        "attribute": {"firmware = 2.1": once | {"both_pass": 1}, "site = north": once},
    }


def test_what_heals_is_told_by_the_failures_that_go() -> None:
    comparison = Comparison()
    comparison.add(FAILS, PASSES, device="d", attributes={}, topic="t", message_id="gw.1.7")
    assert list(comparison.tables["policy"].rows) == ["temperature"]
    (sample,) = comparison.samples("would_heal")
    assert sample.as_document() == {
        "id": "gw.1.7",
        "device": "d",
        "topic": "t",
        "policies": ["temperature"],
        "failures": [{"pointer": "/value", "keyword": "minimum", "message": "-300 is less than -273"}],
    }


def test_what_fails_on_both_sides_is_told_by_the_other_rules() -> None:
    comparison = Comparison()
    comparison.add(FAILS, Outcome(("new",), (LATE,)), device="d", attributes={})
    assert list(comparison.tables["pointer"].rows) == ["/at"]


def test_the_newest_samples_are_kept_and_the_rest_is_only_counted() -> None:
    comparison = Comparison(most_samples=3)
    for number in range(10):
        comparison.add(PASSES, FAILS, device=f"d-{number}", attributes={})
    assert [sample.device for sample in comparison.samples("would_break")] == ["d-7", "d-8", "d-9"]
    assert comparison.total.would_break == 10


def test_the_worst_rows_come_first() -> None:
    comparison = Comparison()
    for device in ("a", "b", "b", "c"):
        comparison.add(PASSES, FAILS, device=device, attributes={})
    comparison.add(FAILS, PASSES, device="c", attributes={})
    assert [key for key, _ in comparison.tables["device"].worst(2)] == ["b", "c"]


OUTCOMES = st.builds(
    Outcome,
    st.lists(st.text(max_size=3), max_size=3, unique=True).map(tuple),
    st.lists(st.builds(Failure, st.text(max_size=3), st.just("type"), st.just("no")), max_size=3).map(tuple),
)


@given(
    st.lists(
        st.tuples(OUTCOMES, OUTCOMES, st.text(max_size=2), st.dictionaries(st.text(max_size=1), st.text(max_size=2)))
    )
)
def test_whatever_comes_it_stays_within_its_bounds_and_forgets_no_message(
    messages: list[tuple[Outcome, Outcome, str, dict[str, str]]],
) -> None:
    comparison = Comparison(most_rows=2, most_samples=2)
    for now, then, device, attributes in messages:
        comparison.add(now, then, device=device, attributes=attributes)
    assert comparison.total.messages == len(messages)
    for table in comparison.tables.values():
        assert len(table.rows) <= 2
    assert all(len(comparison.samples(cell)) <= 2 for cell in CELLS)
    devices = comparison.tables["device"]
    counted = sum(row.messages for row in devices.rows.values()) + devices.other.messages
    assert counted == len(messages) - comparison.total.both_pass


def test_a_sample_has_its_payload_where_it_cannot_be_looked_up() -> None:
    comparison = Comparison()
    comparison.add(PASSES, FAILS, device="d", attributes={}, payload="1")
    comparison.add(PASSES, FAILS, device="d", attributes={})
    assert [sample.as_document().get("payload") for sample in comparison.samples("would_break")] == ["1", None]
