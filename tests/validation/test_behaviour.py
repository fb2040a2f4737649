"""What devices do over time, rule by rule; and laws about what the rules let through and remember."""

from collections import deque
from typing import Any

import pytest
from hypothesis import given, strategies as st

from mqttproxy.config.model import PayloadSettings
from mqttproxy.mqtt.packets import Properties, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation import Action, Failure, Identity, Verdict
from mqttproxy.validation.behaviour import Silence, Watch
from tests.config.documents import parse

WALL = 1_700_000_000.0  # 2023-11-14T22:13:20Z
SEQUENCE = 'rule = "sequence"\npointer = "/seq"'


def table(rule: str, *, name: str = "b", topics: str = '"t/#"', more: str = "") -> str:
    return f'[[behaviours]]\nname = "{name}"\ntopics = [{topics}]\n{rule}\n{more}\n'


class Asked:
    """Rules that are asked about one message after the other."""

    def __init__(self, *tables: str, most: int = 1000) -> None:
        self.watch = Watch(most)
        self.use(*tables)

    def use(self, *tables: str) -> None:
        self.watch.use(parse("".join(tables)).behaviours, PayloadSettings())

    def ask(
        self,
        payload: str = "",
        *,
        now: float = 0.0,
        topic: str = "t/1",
        device: str = "d",
        dup: bool = False,
        wall: float = WALL,
        user: tuple[tuple[str, str], ...] = (),
        **identity: Any,
    ) -> tuple[list[Verdict], list[Silence]]:
        message = Publish(topic, payload.encode(), 1, False, Properties(user_properties=user), 1, dup)
        who = Identity(device, None, "192.0.2.7", "default", **identity)
        return self.watch.ask(self.watch.covering(topic), message, who, now=now, wall=wall)

    def failures(self, payload: str = "", **how: Any) -> list[Failure]:
        return [failure for verdict in self.ask(payload, **how)[0] for failure in verdict.failures]

    def words(self, payload: str = "", **how: Any) -> str:
        return "; ".join(failure.message for failure in self.failures(payload, **how))


class TestQuota:
    def test_what_is_more_than_the_quota_fails_until_the_window_is_over(self) -> None:
        asked = Asked(table('rule = "quota"\nmessages = 3\nwindow = "80s"'))
        assert [asked.words(now=now) for now in (5.0, 6.0, 7.0)] == ["", "", ""]
        assert asked.failures(now=8.0) == [Failure("", "quota", "more than 3 messages in 80s")]
        assert asked.words(now=85.0)
        assert not asked.words(now=90.0)  # its part of the window began at 0, and ended at 10

    def test_each_device_has_its_own_over_all_topics(self) -> None:
        asked = Asked(table('rule = "quota"\nmessages = 1\nwindow = "1m"'))
        assert not asked.words(device="a", topic="t/1")
        assert not asked.words(device="b", topic="t/1")
        assert asked.words(device="a", topic="t/2")

    def test_bytes_are_those_of_payloads(self) -> None:
        asked = Asked(table('rule = "quota"\nbytes = "10B"\nwindow = "1m"'))
        assert not asked.words("1234567")
        assert asked.words("1234") == "more than 10B in 1m"
        assert not asked.words("123")

    def test_what_it_refuses_does_not_count(self) -> None:
        asked = Asked(table('rule = "quota"\nmessages = 1\nwindow = "8s"'))
        assert not asked.words(now=0.0)
        assert all(asked.words(now=float(now)) for now in range(1, 9))
        assert not asked.words(now=9.0)

    @given(
        st.lists(st.tuples(st.floats(0, 30), st.integers(0, 60)), max_size=80),
        st.integers(1, 100),
        st.floats(0.5, 60),
    )
    def test_never_more_than_the_quota_passes_in_any_window(
        self, steps: list[tuple[float, int]], most: int, window: float
    ) -> None:
        window = round(window, 3)
        asked = Asked(table(f'rule = "quota"\nbytes = {most}\nwindow = "{window}s"'))
        now, passed = 1000.0, list[tuple[float, int]]()
        for step, size in steps:
            now += step
            within = sum(size for at, size in passed if now - at <= window)
            longer = sum(size for at, size in passed if now - at <= window * 9 / 8 + 1e-6)
            if asked.words("x" * size, now=now):
                assert longer + size > most  # nobody is stopped without a reason
            else:
                assert within + size <= most
                passed.append((now, size))


class TestDuplicates:
    def test_the_same_payload_fails_within_the_window_and_passes_after_it(self) -> None:
        asked = Asked(table('rule = "duplicates"\nwindow = "10s"'))
        assert not asked.words("a")
        assert asked.failures("a", now=4.0) == [
            Failure("", "duplicate", "the same payload as 4s before, within 10s"),
        ]
        assert not asked.words("a", now=10.0)
        assert asked.words("a", now=11.0)

    def test_others_may_come_between(self) -> None:
        asked = Asked(table('rule = "duplicates"\nwindow = "10s"'))
        assert [bool(asked.words(text)) for text in "abcabc"] == [False] * 3 + [True] * 3

    def test_other_topics_and_devices_are_told_apart(self) -> None:
        asked = Asked(table('rule = "duplicates"\nwindow = "10s"'))
        assert not asked.words("a")
        assert not asked.words("a", topic="t/2")
        assert not asked.words("a", device="e")

    def test_a_value_is_compared_where_a_pointer_says_so(self) -> None:
        asked = Asked(table('rule = "duplicates"\nwindow = "10s"\npointer = "/v/0"'))
        assert not asked.words('{"v": [{"a": 1, "b": 2}], "at": 1}')
        (failure,) = asked.failures('{"v": [{"b": 2, "a": 1}], "at": 2}', now=1.0)
        assert failure == Failure("/v/0", "duplicate", "the same value as 1s before, within 10s")
        assert asked.words('{"v": []}') == "the value to compare is missing"

    def test_what_a_device_sends_again_because_it_was_not_acknowledged_is_no_duplicate(self) -> None:
        asked = Asked(table('rule = "duplicates"\nwindow = "10s"'))
        assert not asked.words("a")
        assert not asked.words("a", dup=True)

    @given(st.lists(st.tuples(st.floats(0, 6), st.integers(0, 5)), max_size=60))
    def test_whatever_passes_differs_from_all_that_passed_within_the_window(
        self, steps: list[tuple[float, int]]
    ) -> None:
        asked = Asked(table('rule = "duplicates"\nwindow = "10s"'))
        now, passed = 50.0, dict[int, float]()
        for step, value in steps:
            now += step
            is_duplicate = value in passed and passed[value] > now - 10
            assert bool(asked.words(str(value), now=now)) is is_duplicate
            if not is_duplicate:
                passed[value] = now


class TestSequence:
    def test_gaps_repetitions_and_steps_back_are_told_once_each(self) -> None:
        asked = Asked(table(SEQUENCE))
        told = {number: asked.words(f'{{"seq": {number}}}') for number in (7, 8, 12, 13)}
        assert told == {7: "", 8: "", 12: "the sequence number went from 8 to 12: 3 missing", 13: ""}
        assert asked.failures('{"seq": 13}') == [Failure("/seq", "sequence", "the sequence number 13 came twice")]
        assert asked.words('{"seq": 1}') == "the sequence number went back from 13 to 1"
        assert not asked.words('{"seq": 2}')

    def test_each_topic_of_a_device_counts_by_itself(self) -> None:
        asked = Asked(table(SEQUENCE))
        assert not asked.words('{"seq": 1}', topic="t/1")
        assert not asked.words('{"seq": 1}', topic="t/2")
        assert not asked.words('{"seq": 2}', topic="t/1")

    def test_a_number_that_wraps_begins_again_at_0(self) -> None:
        asked = Asked(table(SEQUENCE, more="wrap = 256"))
        assert [asked.words(f'{{"seq": {number}}}') for number in (254, 255, 0)] == ["", "", ""]
        assert asked.words('{"seq": 5}') == "the sequence number went from 0 to 5: 4 missing"
        assert asked.words('{"seq": 250}') == "the sequence number went back from 5 to 250"
        assert asked.words('{"seq": 3}') == "the sequence number went from 250 to 3: 8 missing"
        assert asked.words('{"seq": 256}') == "the sequence number is 256, not one of 0 to 255"

    def test_a_user_property_may_have_the_number(self) -> None:
        asked = Asked(table('rule = "sequence"\nuser_property = "n"'))
        assert not asked.words(user=(("n", "1"),))
        (failure,) = asked.failures(user=(("n", "3"),))
        assert failure == Failure("", "sequence", "the sequence number went from 1 to 3: 1 missing")
        assert asked.words(user=(("n", "4"), ("n", "5"))) == (
            "the sequence number stands more than once as user property 'n'"
        )
        assert asked.words() == "the sequence number is missing as user property 'n'"
        assert asked.words(user=(("n", "\u0661"),)) == "the sequence number is '\u0661', which is no whole number"

    @pytest.mark.parametrize(
        ("payload", "words"),
        [
            ("{}", "is missing"),
            ("[]", "is missing"),
            ("5", "is missing"),
            ('{"seq": true}', "is true, which is no whole number"),
            ('{"seq": 1.0}', "is 1.0, which is no whole number"),
            ('{"seq": "1"}', "is '1', which is no whole number"),
            ("nonsense", "cannot be looked for: "),
        ],
    )
    def test_a_message_without_a_number_fails(self, payload: str, words: str) -> None:
        assert Asked(table(SEQUENCE)).words(payload).startswith(f"the sequence number {words}")

    def test_what_a_device_sends_again_is_no_step_back_and_changes_nothing(self) -> None:
        asked = Asked(table(SEQUENCE))
        assert [asked.words(f'{{"seq": {number}}}') for number in (1, 2, 3)] == ["", "", ""]
        assert [asked.words(f'{{"seq": {number}}}', dup=True) for number in (2, 3, 4)] == ["", "", ""]
        assert not asked.words('{"seq": 5}')

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-3, 8), st.booleans()), max_size=60))
    def test_the_rule_says_what_a_plain_reading_of_all_numbers_says(self, sent: list[tuple[str, int, bool]]) -> None:
        asked, last = Asked(table(SEQUENCE)), dict[str, int]()
        for device, number, again in sent:
            told = asked.words(f'{{"seq": {number}}}', device=device, dup=again)
            before = last.get(device, number - 1)
            if again and number <= before:
                assert told == ""
                continue
            last[device] = number
            if number == before + 1:
                assert told == ""
            elif number == before:
                assert told.endswith(" came twice")
            elif number < before:
                assert told.endswith(f" went back from {before} to {number}")
            else:
                assert told.endswith(f" went from {before} to {number}: {len(range(before + 1, number))} missing")


class TestSkew:
    SKEW = 'rule = "skew"\nmax_skew = "5s"\npointer = "/at"'

    @pytest.mark.parametrize(
        "at", ["2023-11-14T22:13:20Z", "2023-11-14T22:13:25", "2023-11-14T23:13:15.5+01:00", "20231114T221320Z"]
    )
    def test_a_time_near_our_clock_passes_in_any_zone(self, at: str) -> None:
        assert not Asked(table(self.SKEW)).words(f'{{"at": "{at}"}}')

    @pytest.mark.parametrize(
        ("at", "words"),
        [
            ("2023-11-14T22:13:26Z", "is 6s ahead of our clock, where 5s is the most"),
            ("2023-11-14T22:12:20Z", "is 60s behind our clock, where 5s is the most"),
            ("0001-01-01T00:00:00+23:59", "is 6.38e+10s behind our clock, where 5s is the most"),
            ("yesterday", "is 'yesterday', which is not a time in ISO 8601"),
            ("9" * 41, f"is {'9' * 41!r}, which is not a time in ISO 8601"),
        ],
    )
    def test_a_time_that_is_off_fails(self, at: str, words: str) -> None:
        assert Asked(table(self.SKEW)).failures(f'{{"at": "{at}"}}') == [Failure("/at", "skew", f"the time {words}")]

    @pytest.mark.parametrize(
        ("time", "at", "words"),
        [
            ("seconds", "1700000004.5", ""),
            ("milliseconds", "1700000000000", ""),
            ("seconds", "1700000000000", "is 1.7e+12s ahead of our clock, where 5s is the most"),
            ("seconds", '"now"', "is 'now', which is not a number of seconds"),
            ("milliseconds", "null", "is null, which is not a number of milliseconds"),
        ],
    )
    def test_times_may_be_counted_since_1970(self, time: str, at: str, words: str) -> None:
        asked = Asked(table(self.SKEW, more=f'time = "{time}"'))
        assert asked.words(f'{{"at": {at}}}') == (words and f"the time {words}")

    def test_a_user_property_may_have_it(self) -> None:
        asked = Asked(table('rule = "skew"\nmax_skew = "5s"\nuser_property = "at"\ntime = "seconds"'))
        assert not asked.words(user=(("at", "1700000000.25"),))
        assert asked.words(user=(("at", "1e9"),)) == "the time is '1e9', which is not a number of seconds"

    def test_nothing_is_remembered(self) -> None:
        asked = Asked(table(self.SKEW))
        asked.ask('{"at": "2023-11-14T22:13:20Z"}')
        assert asked.watch.remembered == 0

    @given(st.text(max_size=50))
    def test_any_text_is_a_time_or_a_failure(self, text: str) -> None:
        asked = Asked(table('rule = "skew"\nmax_skew = "5s"\nuser_property = "at"'))
        assert asked.words(user=(("at", text),)).isprintable()


class TestSilence:
    SILENCE = 'rule = "silence"\nevery = "60s"'

    def fallen(self, asked: Asked, now: float, most: int = 100) -> list[tuple[str, float]]:
        return [(news.device, news.seconds) for news in asked.watch.fallen_silent(now, most)]

    def test_it_is_told_once_when_it_begins_and_once_when_it_ends(self) -> None:
        asked = Asked(table(self.SILENCE))
        assert asked.ask(now=0.0) == ([], [])
        assert self.fallen(asked, 60.0) == []
        assert self.fallen(asked, 61.0) == [("d", 61.0)]
        assert self.fallen(asked, 500.0) == []
        assert asked.watch.silent == 1
        assert asked.ask(now=600.0) == ([], [Silence("b", "d", 600.0, began=False)])
        assert asked.ask(now=601.0) == ([], [])
        assert asked.watch.silent == 0
        assert self.fallen(asked, 662.0) == [("d", 61.0)]

    def test_a_device_that_was_never_heard_of_is_not_expected(self) -> None:
        asked = Asked(table(self.SILENCE))
        asked.ask(topic="elsewhere")
        assert self.fallen(asked, 1e6) == []

    def test_no_look_tells_more_than_it_may_and_the_next_goes_on(self) -> None:
        asked = Asked(table(self.SILENCE), table(self.SILENCE, name="c"))
        for number in range(5):
            asked.ask(device=f"d{number}")
        assert [len(self.fallen(asked, 100.0, 4)) for _ in range(4)] == [4, 4, 2, 0]

    def test_a_named_level_may_tell_the_device(self) -> None:
        asked = Asked(table(self.SILENCE, topics='"t/{sensor}/v"', more='device = "sensor"'))
        asked.ask(device="gateway", topic="t/a/v", now=0.0)
        asked.ask(device="gateway", topic="t/b/v", now=30.0)
        assert self.fallen(asked, 70.0) == [("a", 70.0)]

    @given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 100)), max_size=60))
    def test_every_silence_has_one_beginning_and_one_end(self, steps: list[tuple[str, float]]) -> None:
        asked, silent, heard, now = Asked(table(self.SILENCE)), set[str](), dict[str, float](), 0.0
        for device, step in steps:
            now += step
            for name, _ in self.fallen(asked, now):
                assert name not in silent
                silent.add(name)
            assert silent == {name for name, at in heard.items() if now - at > 60}
            _, ended = asked.ask(device=device, now=now)
            assert [news.device for news in ended] == ([device] if device in silent else [])
            silent.discard(device)
            heard[device] = now


class TestWhatARuleSays:
    QUOTA = 'rule = "quota"\nmessages = 1\nwindow = "1m"'

    def verdict(self, more: str = "", rule: str = QUOTA) -> Verdict:
        asked = Asked(table(rule, more=more))
        asked.ask()
        ((verdict,), _) = asked.ask()
        return verdict

    def test_a_message_is_held_by_default_and_the_rule_named_as_the_policy(self) -> None:
        verdict = self.verdict()
        assert (verdict.action, verdict.policy, verdict.reason) == (Action.HOLD, "b", ReasonCode.QUOTA_EXCEEDED)
        assert not any((verdict.alert, verdict.disconnect, verdict.mark, verdict.observed))

    def test_other_rules_have_another_reason_code(self) -> None:
        verdict = self.verdict(rule='rule = "duplicates"\nwindow = "1m"')
        assert verdict.reason is ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR

    def test_actions_are_those_of_policies(self) -> None:
        verdict = self.verdict('on_failure = ["refuse", "alert", "disconnect"]')
        assert (verdict.action, verdict.alert, verdict.disconnect) == (Action.REFUSE, True, True)
        verdict = self.verdict('on_failure = ["mark"]')
        assert (verdict.action, verdict.mark) == (Action.FORWARD, True)
        assert self.verdict('on_failure = ["alert"]').action is Action.REFUSE

    def test_a_rule_that_observes_changes_nothing_but_alerts(self) -> None:
        verdict = self.verdict('level = "observe"\non_failure = ["hold", "alert", "disconnect"]')
        assert (verdict.action, verdict.observed, verdict.alert) == (Action.FORWARD, True, True)
        assert not any((verdict.disconnect, verdict.mark))

    def test_one_that_is_off_watches_nobody(self) -> None:
        assert Asked(table(self.QUOTA, more='level = "off"')).watch.rules == ()

    def test_when_says_whose_messages_are_meant(self) -> None:
        asked = Asked(table(self.QUOTA, more='when.attributes = { firmware = ">=2" }'))
        assert [asked.words(attributes={"firmware": "1.9"}) for _ in range(2)] == ["", ""]
        assert [bool(asked.words(attributes={"firmware": "2.1"})) for _ in range(2)] == [False, True]

    def test_rules_are_asked_in_the_order_of_the_file_and_all_are_told(self) -> None:
        asked = Asked(table(SEQUENCE, name="first"), table(SEQUENCE, name="second", topics='"t/1", "t/+"'))
        verdicts, _ = asked.ask("{}")
        assert [verdict.policy for verdict in verdicts] == ["first", "second"]


class TestMemory:
    @given(
        st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["t/1", "t/2"]), st.floats(0, 5)), max_size=100),
        st.integers(1, 6),
    )
    def test_no_rule_remembers_more_than_it_may(self, sent: list[tuple[int, str, float]], most: int) -> None:
        rules = (
            'rule = "quota"\nmessages = 3\nwindow = "9s"', TestSilence.SILENCE, 'rule = "duplicates"\nwindow = "9s"',
            'rule = "sequence"\nuser_property = "n"',
        )  # fmt: skip
        asked = Asked(*(table(rule, name=f"b{number}") for number, rule in enumerate(rules)), most=most)
        now = 0.0
        for device, topic, step in sent:
            now += step * 10
            deque(asked.watch.fallen_silent(now, 2))
            asked.ask("x", device=str(device), topic=topic, now=now, user=(("n", "1"),))
            assert all(len(rule.kind) <= most for rule in asked.watch.rules)
            assert asked.watch.remembered <= 4 * most
        devices = len({device for device, _, _ in sent})
        assert (asked.watch.forgotten > 0) or devices <= most

    def test_whoever_was_heard_of_longest_ago_is_forgotten_first_and_counted(self) -> None:
        asked = Asked(table(TestWhatARuleSays.QUOTA), most=2)
        for device in ("a", "b", "a", "c"):
            asked.ask(device=device)
        assert asked.watch.forgotten == 1
        assert asked.words(device="a")
        assert not asked.words(device="b")  # and so it begins anew

    def test_of_silent_devices_the_one_silent_for_longest_goes_first(self) -> None:
        asked = Asked(table(TestSilence.SILENCE), most=2)
        asked.ask(device="a", now=0.0)
        asked.ask(device="b", now=50.0)
        deque(asked.watch.fallen_silent(70.0, 10))
        asked.ask(device="c", now=70.0)
        assert (asked.watch.silent, asked.watch.forgotten, asked.watch.remembered) == (0, 1, 2)

    def test_a_reload_keeps_what_unchanged_rules_remember(self) -> None:
        rule = TestWhatARuleSays.QUOTA
        asked = Asked(table(rule), table(rule, name="other"))
        asked.ask()
        asked.use(table(rule.replace("1m", "2m"), name="other"), table(rule, more='level = "observe"'))
        (verdict,) = asked.ask()[0]
        assert (verdict.policy, verdict.observed) == ("b", True)  # the other has a new window, and begins anew

    def test_a_rule_that_was_off_begins_anew(self) -> None:
        rule = TestWhatARuleSays.QUOTA
        asked = Asked(table(rule))
        asked.ask()
        asked.use(table(rule, more='level = "off"'))
        asked.use(table(rule))
        assert not asked.words()

    def test_topics_without_rules_are_remembered_as_such_within_bounds(self) -> None:
        asked = Asked(table(TestWhatARuleSays.QUOTA))
        for number in range(10_050):
            assert asked.watch.covering(f"u/{number}") == ()
        assert len(asked.watch._covering) <= 10_000
