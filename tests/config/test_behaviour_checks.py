"""Cross-checks of behaviour rules, with the exact sentences."""

# ruff: noqa: E501, ISC004 # sentences stand as they are told

import pytest

from mqttproxy.config.behaviours import BehaviourSettings
from tests.config.documents import faults, parse

HEAD = '[[behaviours]]\nname = "b"\ntopics = ["t/{sensor}/#"]\n'
QUOTA = HEAD + 'rule = "quota"\nmessages = 3\nwindow = "1m"\n'
SILENCE = HEAD + 'rule = "silence"\nevery = "60s"\n'
SEQUENCE = HEAD + 'rule = "sequence"\npointer = "/seq"\n'
POLICY = '[[policies]]\nname = "b"\ntopics = ["t"]\nformat = "raw"\n'

GOOD = [
    QUOTA,
    HEAD + 'rule = "quota"\nbytes = "1MiB"\nwindow = 10',
    SILENCE,
    SILENCE + 'on_failure = ["alert"]\ndevice = "sensor"\n[behaviours.when]\nclient_id = ["tx-*"]',
    HEAD + 'rule = "duplicates"\nwindow = "10s"\npointer = "/a~1b/0"\non_failure = ["refuse", "disconnect"]',
    SEQUENCE + "wrap = 65536",
    HEAD + 'rule = "skew"\nuser_property = "at"\ntime = "milliseconds"\nmax_skew = "5s"\nlevel = "observe"',
]

BAD = [
    (
        HEAD + 'rule = "rate"',
        (
            'behaviours[0].rule: found "rate", expected one of "quota", "silence", "duplicates", "sequence", "skew"',
        ),
    ),
    (
        HEAD + 'rule = "quota"',
        (
            'behaviours[0].messages: found nothing, expected messages or bytes, because rule is "quota"',
            'behaviours[0].window: found nothing, expected window, because rule is "quota"',
        ),
    ),
    (QUOTA + "bytes = 5", ("behaviours[0].bytes: found both, expected either messages or bytes",)),
    (QUOTA.replace("1m", "0.1ms"), ("behaviours[0].window: found 0s, expected 1ms to 36500d",)),
    (SILENCE.replace("60s", "500ms"), ("behaviours[0].every: found 500ms, expected 1s to 36500d",)),
    (QUOTA + "wrap = 0", ("behaviours[0].wrap: found 0, expected a whole number of at least 1",)),
    (
        QUOTA + 'every = "1s"\ntime = "seconds"',
        (
            'behaviours[0].every: found a key of another rule, expected none, because rule is "quota"; it belongs to silence',
            'behaviours[0].time: found a key of another rule, expected none, because rule is "quota"; it belongs to skew',
        ),
    ),
    (
        SILENCE + 'window = "1s"',
        (
            'behaviours[0].window: found a key of another rule, expected none, because rule is "silence"; it belongs to '
            "quota and duplicates",
        ),
    ),
    (
        SILENCE + 'on_failure = ["alert", "hold"]',
        (
            'behaviours[0].on_failure: found "hold", expected only "alert", because rule is "silence"; there is no '
            "message to act on",
        ),
    ),
    (
        QUOTA + "on_failure = []",
        (
            'behaviours[0].on_failure: found an empty list, expected at least one action; level = "observe" only counts',
        ),
    ),
    (
        SEQUENCE.replace("/seq", "seq"),
        (
            'behaviours[0].pointer: found "seq", expected a JSON Pointer such as "/header/seq"; a member behind each /; '
            "~ is written ~0, and / in a name ~1",
        ),
    ),
    (SEQUENCE + 'user_property = ""', (
        "behaviours[0].user_property: found both, expected either pointer or user_property",
        'behaviours[0].user_property: found "", expected 1 to 256 characters',
    )),
    (SEQUENCE + "wrap = 1", ("behaviours[0].wrap: found 1, expected 2 to 4611686018427387904",)),
    (
        QUOTA + 'device = "device"',
        (
            'behaviours[0].device: found "device", expected a named level of all topics; topics[0] has no {device}',
        ),
    ),
    (
        QUOTA + "[behaviours.when]\nclient_id = []",
        ("behaviours[0].when.client_id: found an empty list, expected at least one text; it would fit nobody",),
    ),
    (POLICY + QUOTA, ('behaviours[0].name: found "b", expected a name of its own; policies[0] has it',)),
    (QUOTA + QUOTA, ('behaviours[1].name: found "b", expected a name of its own; behaviours[0] has it',)),
    (
        "".join(SILENCE.replace('"b"', f'"{number}"') for number in range(65)),
        ("behaviours: found 65 rules, expected at most 64",),
    ),
    (
        QUOTA + 'schema = "a@1"',
        ("behaviours[0].schema: found an unknown key; it belongs into [[policies]] or [[policies.bindings]] or [policies.shadow]",),
    ),
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_a_rule_with_its_own_keys_is_accepted(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(("text", "told"), BAD)
def test_what_is_wrong_is_told_whole(text: str, told: tuple[str, ...]) -> None:
    assert faults(text) == list(told)


def test_a_rule_that_is_faulty_does_not_hide_what_is_wrong_elsewhere() -> None:
    told = faults(HEAD + 'rule = "quota"\nwindow = {}\n' + SEQUENCE.replace("/seq", "seq").replace('"b"', '"c"'))
    assert [line.partition(":")[0] for line in told] == ["behaviours[0].window", "behaviours[1].pointer"]


def test_without_actions_a_message_is_held_and_silence_told() -> None:
    (rule,) = parse(QUOTA).behaviours
    assert isinstance(rule, BehaviourSettings)
    assert (rule.on_failure, rule.level, rule.window) == (None, "enforce", 60.0)
