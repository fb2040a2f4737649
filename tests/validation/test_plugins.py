import pytest

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.model import PluginSettings
from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.plugin.view import REQUESTS, Sender, View
from mqttproxy.validation import Action, Failure, Generation, judge
from mqttproxy.validation.plugins import ASKED_BEFORE, Answers, Question
from mqttproxy.validation.trace import trace
from tests.plugins import pretend
from tests.validation.schema_shelf import SENDER, generation, policy
from tests.validation.transforms.steps import steps

PLUGGED = (PluginSettings(name="a"),)
TELLS = (Failure("/x", "plugin", "no"),)


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "a", "b")


def view_of(question: Question) -> View:
    return REQUESTS.decode(question.request).view


def answers_to(message: Message, rules: Generation, *failures: Failure) -> Answers:
    """Return answers that all say the same, to whatever is asked of a message."""
    answers = Answers()
    judge(message, SENDER, rules, answers)
    while answers.missing:
        answers.known |= dict.fromkeys(answers.take_missing(), failures)
        judge(message, SENDER, rules, answers)
    return answers


def test_without_an_answer_a_message_fails_and_the_question_is_noted() -> None:
    rules = generation({}, policy(schema=None, format="json", plugins=PLUGGED, topics=("{x}/+",)))
    answers = Answers()
    message = Message("t/1", b'{"x": 1}', 1, True, Properties(content_type="c", user_properties=(("k", "v"),)))
    verdict = judge(message, SENDER, rules, answers)
    assert verdict.action is Action.HOLD
    assert [failure.keyword for failure in verdict.failures] == ["plugin-fault"]
    ((question,),) = (answers.missing,)
    assert (question.plugin, question.seconds) == ("a", 0.1)
    view = view_of(question)
    assert (view.topic, view.payload, view.captures, view.document) == ("t/1", b'{"x": 1}', {"x": "t"}, {"x": 1})
    given = view.properties
    assert (given.qos, given.retain, given.content_type, given.user) == (1, True, "c", (("k", "v"),))
    assert view.sender == Sender(SENDER.client_id, None, SENDER.address, SENDER.listener, {})


def test_who_never_asks_has_it_fail() -> None:
    rules = generation({}, policy(schema=None, format="raw", plugins=PLUGGED))
    assert judge(Message("t", b""), SENDER, rules).failures[0].keyword == "plugin-fault"


def test_with_an_answer_it_is_judged_by_it() -> None:
    rules = generation({}, policy(schema=None, format="raw", plugins=PLUGGED))
    message = Message("t", b"1")
    assert judge(message, SENDER, rules, answers_to(message, rules)).failures == ()
    assert judge(message, SENDER, rules, answers_to(message, rules, *TELLS)).failures == TELLS
    assert judge(Message("t", b"2"), SENDER, rules, answers_to(message, rules)).failures[0].keyword == "plugin-fault"


def test_an_explanation_says_the_same() -> None:
    rules = generation({}, policy(schema=None, format="raw", plugins=PLUGGED))
    message = Message("t", b"1")
    for answers in (answers_to(message, rules), answers_to(message, rules, *TELLS), Answers()):
        assert trace(message, SENDER, rules, answers).verdict == judge(message, SENDER, rules, answers)


def test_retained_messages_are_not_asked_about_again() -> None:
    rules = generation({}, policy(schema=None, format="raw", plugins=PLUGGED))
    assert judge(Message("t", b"1"), SENDER, rules, ASKED_BEFORE).failures == ()


def test_a_payload_that_cannot_be_read_is_not_asked_about() -> None:
    rules = generation({}, policy(schema=None, format="json", plugins=PLUGGED))
    answers = Answers()
    assert [failure.keyword for failure in judge(Message("t", b"{"), SENDER, rules, answers).failures] == ["json"]
    assert not answers.missing


def test_beside_a_schema_both_must_be_content_and_with_any_one_of_them() -> None:
    for strategy, keywords in (("all", {"type", "plugin"}), ("any", set())):
        rules = generation({"t/1.json": {"type": "number"}}, policy(plugins=PLUGGED, strategy=strategy))
        for payload, failures in ((b'"x"', TELLS), (b"1", TELLS)):
            message = Message("t", payload)
            found = judge(message, SENDER, rules, answers_to(message, rules, *failures)).failures
            if strategy == "all":
                assert {failure.keyword for failure in found} == (keywords if payload == b'"x"' else {"plugin"})
            else:
                assert bool(found) is (payload == b'"x"')


def test_only_topics_whose_policies_have_one_are_asked_about() -> None:
    rules = generation(
        {},
        policy(name="p", schema=None, format="raw", plugins=PLUGGED, topics=("p/#",)),
        policy(name="q", schema=None, format="raw", topics=("q/#",)),
        policy(name="r", schema=None, format="raw", plugins=(PluginSettings(name="b"),), topics=("r/#",), level="off"),
    )
    assert [rules.asks(topic) for topic in ("p/1", "q/1", "r/1", "s")] == [True, False, False, False]
    assert rules.plugins == {"a"}
    assert rules.down.plugins == frozenset()


def test_what_is_brought_to_another_topic_is_asked_about_there() -> None:
    rules = generation(
        {},
        policy(name="p", schema=None, format="json", topics=("p",), transforms=steps('op = "set_topic", to = "q"')),
        policy(name="q", schema=None, format="json", plugins=PLUGGED, topics=("q",)),
    )
    assert rules.asks("p")
    message = Message("p", b"1")
    answers = Answers()
    judge(message, SENDER, rules, answers)
    assert [view_of(question).topic for question in answers.missing] == ["q"]
    assert judge(message, SENDER, rules, answers_to(message, rules)).failures == ()


def test_one_that_is_not_installed_is_a_fault_that_names_those_that_are() -> None:
    with pytest.raises(ConfigError) as caught:
        generation({}, policy(schema=None, format="raw", plugins=(*PLUGGED, PluginSettings(name="c"))))
    assert [str(fault) for fault in caught.value.faults] == [
        'proxy.toml: policies[0].plugins[1].name: found "c"; installed in the group mqttproxy.checks: "a", "b"'
    ]
