"""From the settings of policies to their changes."""

import pytest

from mqttproxy.config.errors import ConfigError
from mqttproxy.validation.transforms.making import ChangeMaker, has_change
from tests.config.documents import faults, parse
from tests.validation.transforms.test_changing import Letters

POLICY = '[[policies]]\nname = "p"\ntopics = ["a/{b}"]\nschema = "s@1"\n'
STEPS = 'transforms = [{ op = "copy_topic", from = "{b}", to = "/b" }]\n'


def test_a_policy_changes_messages_by_steps_or_by_their_format() -> None:
    config = parse(POLICY + STEPS + POLICY.replace('"p"', '"q"') + 'carry_as = "json"\n' + POLICY.replace('"p"', '"r"'))
    assert [has_change(policy) for policy in config.policies] == [True, True, False]
    maker = ChangeMaker(config, {"s@1": Letters()})  # type: ignore[dict-item]
    same, as_json, none = [maker.of(policy) for policy in config.policies]
    assert same is not None
    assert (same.reads, same.writes, same.becomes_json) == (Letters(), Letters(), False)
    assert as_json is not None
    assert (as_json.reads, as_json.becomes_json) == (Letters(), True)
    assert none is None


def test_without_a_key_there_is_no_maker() -> None:
    with pytest.raises(ConfigError, match=r"masking\.key_file"):
        ChangeMaker(parse('[masking]\nkey_file = "not-there"'), {})


def test_what_is_wrong_with_the_steps_of_a_policy_is_told() -> None:
    assert faults(POLICY + STEPS.replace("{b}", "{c}")) == [
        'policies[0].transforms[0].from: found "{c}", expected names that all topic patterns have; "a/{b}" has {b}'
    ]
    for direction in ("down", "both"):
        text = f'{POLICY}direction = "{direction}"\ntransforms = [{{ op = "set_topic", to = "x" }}]\n'
        (sentence,) = faults(text)
        expected = f'another step, because direction is "{direction}"; devices that subscribed asked for the topic'
        assert sentence.startswith(f'policies[0].transforms[0].op: found "set_topic", expected {expected}')
    bare = '[[policies]]\nname = "p"\ntopics = ["a"]\nformat = "json"\ncarry_as = "json"\n'
    assert faults(bare) == [
        'policies[0].carry_as: found "json", expected a schema too; without one nobody can read anything but JSON'
    ]
