from pathlib import Path

import pytest
from msgspec.structs import replace

from mqttproxy.config.load import parse_config
from mqttproxy.mending import MendingError, came_from, identity_of, judged, mended, stamped
from mqttproxy.mqtt.packets import Message, Properties, Timed
from mqttproxy.quarantine.releases import Options
from mqttproxy.recipe import RecipeError
from mqttproxy.validation import Failure, Generation, Identity, Verdict, build_generation
from tests.fake_rooms import Shelf
from tests.house import NUMBERS, POLICY
from tests.quarantine.examples import make_held

PLAIN = Options()
ME = Identity("d", None, "", "plain")


def generation(more: str = "") -> Generation:
    config = parse_config(POLICY + more, "proxy.toml", Path("/"), unreadable=lambda _: None)
    return build_generation(1, config, Shelf(NUMBERS))


def never(error: Exception) -> Verdict:
    raise error


def test_a_message_comes_back_as_it_was() -> None:
    held = make_held(retain=True, qos=2, properties=Properties(content_type="x"))
    message = mended(held, PLAIN, None, age=5.0, now=100.0)
    assert message == Message(held.topic, held.payload, 2, True, held.properties)


def test_what_is_left_of_its_time_is_counted_from_when_it_was_held() -> None:
    held = make_held(properties=Properties(message_expiry_interval=60))
    message = mended(held, PLAIN, None, age=50.0, now=100.0)
    assert isinstance(message, Timed)
    assert message.expires_at == 110.0
    with pytest.raises(MendingError, match="--ignore-expiry"):
        mended(held, PLAIN, None, age=60.0, now=100.0)
    ignored = mended(held, Options(ignore_expiry=True), None, age=60.0, now=100.0)
    assert ignored.properties.message_expiry_interval is None


def test_a_recipe_changes_it_or_says_why_not() -> None:
    held = make_held(payload=b"1")
    assert mended(held, PLAIN, lambda message: replace(message, payload=b"2"), age=0.0, now=0.0).payload == b"2"

    def refuse(_: Message) -> Message:
        raise RecipeError((Failure("/a", "transform", "nothing there"),))

    with pytest.raises(MendingError) as caught:
        mended(held, PLAIN, refuse, age=0.0, now=0.0)
    assert caught.value.verdict.failures == (Failure("/a", "transform", "nothing there"),)


def test_who_sent_it_is_known_again() -> None:
    device = make_held(client_id="d", username="u", address="1.2.3.4", listener="plain")
    assert identity_of(device) == Identity("d", "u", "1.2.3.4", "plain")
    assert came_from(device) is None
    down = make_held(client_id="", username=None, address="b", listener="upstream:b")
    assert came_from(down) == "b"
    assert identity_of(down).listener == "upstream:b"


def test_it_is_judged_by_the_rules_of_its_direction() -> None:
    rules = generation('direction = "down"\n')
    assert judged(Message("n/1", b'"x"'), ME, rules, never)[1].failures == ()
    with pytest.raises(MendingError):
        judged(Message("n/1", b'"x"'), identity_of(make_held(client_id="", listener="upstream:b")), rules, never)


def test_a_mark_or_an_observation_lets_it_go() -> None:
    marked, verdict = judged(Message("n/1", b'"x"'), ME, generation('on_failure = ["mark"]\n'), never)
    assert ("mp-policy", "numbers") in marked.properties.user_properties
    assert verdict.mark
    observed, _ = judged(Message("n/1", b'"x"'), ME, generation('level = "observe"\n'), never)
    assert observed.properties.user_properties == ()


def test_it_carries_its_identity_and_its_time_and_is_kept_on_its_way() -> None:
    held = make_held(qos=0)
    message = stamped(Message("t", b"", 0, False, Properties(user_properties=(("k", "v"),))), held, "then")
    assert message.qos == 1
    assert message.properties.user_properties == (("k", "v"), ("mp-held-id", held.id), ("mp-held-at", "then"))
    assert stamped(Message("t", b"", 2), held, "then").qos == 2


def test_what_policies_change_is_changed() -> None:
    steps = 'transforms = [{ op = "set", path = "", value = 7 }]\n'
    assert judged(Message("n/1", b"1"), ME, generation(steps), never)[0].payload == b"7"
