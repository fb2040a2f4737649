from pathlib import Path

import pytest

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import parse_config
from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.recipe import Mend, RecipeError, compile_recipe

STEPS = 'steps = [{ op = "cast", path = "/v/*", type = "number" }]\n'


def recipe(text: str, config: str = "") -> Mend:
    return compile_recipe(text, parse_config(config, "proxy.toml", Path("/"), unreadable=lambda _: None))


def test_the_steps_change_the_payload_and_nothing_else() -> None:
    message = Message("t", b'{"v":["1","2.5"],"w":1}', 2, True, Properties(content_type="x"))
    mended = recipe(STEPS)(message)
    assert mended == Message("t", b'{"v":[1,2.5],"w":1}', 2, True, Properties(content_type="x"))


def test_topics_choose_and_their_captures_can_be_used() -> None:
    mend = recipe('topics = ["a/{line}"]\nsteps = [{ op = "copy_topic", from = "{line}", to = "/line" }]\n')
    assert mend(Message("a/7", b"{}")).payload == b'{"line":"7"}'
    assert mend(Message("b/7", b"{}")).payload == b"{}"


@pytest.mark.parametrize(
    ("payload", "pointer"), [(b'{"v":["x"]}', "/v/0"), (b"{}", "/v"), (b"\xff", ""), (b'{"v":1,"v":2}', "/v")]
)
def test_what_cannot_be_mended_says_where(payload: bytes, pointer: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(STEPS)(Message("t", payload))
    assert caught.value.failures[0].pointer == pointer
    assert caught.value.failures[0].keyword == "transform"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "steps"),
        ("steps = []", "at least one step"),
        ('steps = [{ op = "cats", path = "/a" }]', 'did you mean "cast"?'),
        ('steps = [{ op = "mask", path = "/a", how = "hash" }]', "key"),
        ("steps = [", "recipe"),
        (STEPS + "colour = 1", "colour"),
    ],
)
def test_a_faulty_recipe_is_told_like_a_faulty_configuration(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe(text)
    assert words in str(caught.value)


def test_hashes_use_the_key_of_the_configuration() -> None:
    mend = recipe('steps = [{ op = "mask", path = "/a", how = "hash" }]', '[masking]\nkey = "0123456789abcdef"\n')
    assert b"Bob" not in mend(Message("t", b'{"a":"Bob"}')).payload
