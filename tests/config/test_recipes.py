import pytest

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.model import LimitSettings
from mqttproxy.config.recipes import parse_recipe


def test_a_recipe_is_for_all_topics_unless_it_says_otherwise() -> None:
    steps = '[[steps]]\nop = "remove"\npath = "/a"\n'
    assert parse_recipe(steps, LimitSettings(), has_key=False).topics == ("#",)
    assert parse_recipe(f'topics = ["a/{{b}}"]\n{steps}', LimitSettings(), has_key=False).topics == ("a/{b}",)


def test_all_faults_are_told_at_once_with_their_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe('topics = ["a/#/b"]\nsteps = [{ op = "remove", path = "" }]', LimitSettings(), has_key=False)
    assert [fault.key for fault in caught.value.faults] == ["topics[0]", "steps[0].path"]
