from pathlib import Path
from typing import Any

import orjson
import pytest

from mqttproxy.config.load import parse_config
from mqttproxy.mqtt.packets import Message
from mqttproxy.validation import Generation, Identity, build_generation, judge
from mqttproxy.validation.drift import MOST_FOUND, MOST_PLACES, WINDOW, Drift, Share, unnamed
from mqttproxy.validation.json_contract import JsonContract
from tests.fake_rooms import Shelf

OBJECT = {"type": "object", "properties": {"a": {"type": "number"}}}
POLICY = '[[policies]]\nname = "{name}"\ntopics = ["t/#"]\nschema = "{schema}"\n'
DEVICE = Identity("d", None, "", "plain", {"fw": "1"})


def rules(text: str, **schemas: Any) -> Generation:
    files = {f"{name}/1.json": schema for name, schema in schemas.items()}
    return build_generation(1, parse_config(text, "proxy.toml", Path("/"), unreadable=lambda _: None), Shelf(files))


def places(schema: dict[str, Any], document: Any) -> list[str]:
    (policy,) = rules(POLICY.format(name="p", schema="s@1"), s=schema).policies
    assert isinstance(policy.contract, JsonContract)
    return unnamed(document, policy.contract.node)


class TestUnnamed:
    @pytest.mark.parametrize(
        ("schema", "document", "found"),
        [
            (OBJECT, {"a": 1}, []),
            (OBJECT, {"a": 1, "b": 2, "c~/": {}}, ["/b", "/c~0~1"]),
            (OBJECT, [{"b": 1}], []),
            ({"properties": {"a": True}}, {"a": {"x": 1}, "b": 1}, ["/b"]),
            ({"properties": {"a": OBJECT}}, {"a": {"a": 1, "b": 1}}, ["/a/b"]),
            ({"type": "array", "items": OBJECT}, [{"a": 1}, {"b": 1}, {"b": 2}], ["/*/b"]),
            ({"allOf": [OBJECT, {"properties": {"b": {"type": "number"}}}]}, {"a": 1, "b": 1, "c": 1}, ["/c"]),
            ({"$ref": "#/$defs/x", "$defs": {"x": OBJECT}}, {"b": 1}, ["/b"]),
            ({"properties": {"a": {"$ref": "#"}}, "type": "object"}, {"a": {"a": {"b": 1}}}, ["/a/a/b"]),
        ],
    )  # fmt: skip
    def test_members_that_no_schema_names_are_found(
        self, schema: dict[str, Any], document: Any, found: list[str]
    ) -> None:
        assert sorted(places(schema, document)) == found

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "object"},
            {**OBJECT, "patternProperties": {"^x": {"type": "number"}}},
            {**OBJECT, "additionalProperties": {"type": "number"}},
        ],
    )
    def test_where_all_or_none_are_named_nothing_is(self, schema: dict[str, Any]) -> None:
        assert places(schema, {"b": 1}) == []

    def test_no_message_is_told_without_end(self) -> None:
        assert len(places(OBJECT, {f"b{number}": 1 for number in range(100)})) == MOST_FOUND


def look(drift: Drift, message: Message, generation: Generation, number: int = 1) -> list[tuple[str, str]]:
    return drift.look(message, DEVICE, judge(message, DEVICE, generation), generation, number)


class TestDrift:
    def look(self, drift: Drift, generation: Generation, document: Any, topic: str = "t/1") -> list[tuple[str, str]]:
        return look(drift, Message(topic, orjson.dumps(document)), generation)

    def test_shares_are_told_by_policy(self) -> None:
        text = POLICY.format(name="one", schema="s@1") + POLICY.format(name="two", schema="r@1")
        generation, drift = rules(text, s=OBJECT, r={"properties": {"b": {"type": "number"}}}), Drift()
        assert self.look(drift, generation, {"a": 1, "b": 1}) == [("one", "/b"), ("two", "/a")]
        assert self.look(drift, generation, {"a": "x", "b": 1}) == []  # told already
        self.look(drift, generation, {"a": 1})
        self.look(drift, generation, {}, topic="elsewhere")
        assert drift.shares() == {"one": Share(3, 2 / 3, 1 / 3), "two": Share(3, 1.0, 0.0)}

    def test_what_is_no_json_fails_and_has_no_places(self) -> None:
        generation, drift = rules(POLICY.format(name="p", schema="s@1"), s=OBJECT), Drift()
        assert look(drift, Message("t/1", b"{"), generation) == []
        assert drift.shares() == {"p": Share(1, 0.0, 1.0)}

    @pytest.mark.parametrize(
        "more",
        ['level = "off"\n', 'direction = "down"\n', '[policies.when]\nattributes = { fw = ">=2" }\n'],
    )
    def test_a_policy_that_does_not_judge_the_message_is_not_asked(self, more: str) -> None:
        generation, drift = rules(POLICY.format(name="p", schema="s@1") + more, s=OBJECT), Drift()
        assert self.look(drift, generation, {"b": 1}) == []
        assert drift.shares() == {}

    def test_nor_is_one_behind_a_final_one_or_on_topics_that_nobody_may_use(self) -> None:
        final = POLICY.format(name="first", schema="s@1") + "final = true\n" + POLICY.format(name="p", schema="s@1")
        drift = Drift()
        assert self.look(drift, rules(final, s=OBJECT), {"b": 1}) == [("first", "/b")]
        forbidden = '[topics]\nallowed = ["other"]\n' + POLICY.format(name="p", schema="s@1")
        assert self.look(Drift(), rules(forbidden, s=OBJECT), {"b": 1}) == []

    def test_the_window_forgets(self) -> None:
        generation, drift = rules(POLICY.format(name="p", schema="s@1"), s=OBJECT), Drift()
        self.look(drift, generation, {"b": 1})
        for _ in range(WINDOW - 1):
            drift._windows["p"].found.append((False, False))
        assert drift.shares()["p"] == Share(WINDOW, 1 / WINDOW, 0.0)
        self.look(drift, generation, {"a": 1})
        assert drift.shares()["p"] == Share(WINDOW, 0.0, 0.0)

    def test_places_are_told_up_to_a_bound(self) -> None:
        generation, drift = rules(POLICY.format(name="p", schema="s@1"), s=OBJECT), Drift()
        told = [self.look(drift, generation, {f"b{number}": 1}) for number in range(MOST_PLACES + 5)]
        assert sum(map(len, told)) == MOST_PLACES
        assert drift.shares()["p"].unknown == 1.0

    def test_another_schema_begins_anew_and_the_same_goes_on(self) -> None:
        text = POLICY.format(name="p", schema="s@1") + POLICY.format(name="q", schema="s@1")
        drift = Drift()
        self.look(drift, rules(text, s=OBJECT), {"b": 1})
        later = rules(text.replace("s@1", "r@1", 1), s=OBJECT, r=OBJECT)
        look(drift, Message("t/1", b'{"b":1}'), later, 2)
        assert {name: share.messages for name, share in drift.shares().items()} == {"p": 1, "q": 2}
        look(drift, Message("t/1", b'{"b":1}'), rules(""), 3)
        assert drift.shares() == {}
