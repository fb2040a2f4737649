"""What devices may do: rules one by one, and a generated matrix of tens of thousands of questions against an oracle.

The oracle knows nothing of filters that cover or overlap each other: it lists all topics of a small world, with a level
in it that no rule names, and asks of each.
"""

import random
import re
from functools import cache
from itertools import product
from typing import Any

import pytest

from mqttproxy.access.acl import Acl, Rights, make_acl
from mqttproxy.config.admitting import AccessSettings, RuleSettings
from mqttproxy.config.policies import WhenSettings
from mqttproxy.config.topic_templates import UnsafeValueError
from mqttproxy.validation import Identity

GRANTS = (("publish", "extra/p"), ("subscribe", "extra/s/#"))


def who(client_id: str = "d1", username: str | None = "ada", grants: Any = (), **attributes: str) -> Identity:
    return Identity(client_id, username, "192.0.2.1", "tcp", attributes, grants)


def acl(*rules: RuleSettings, no_match: Any = None) -> Acl:
    made = make_acl(AccessSettings(rules=rules, no_match=no_match))
    assert made is not None
    return made


def rights(*rules: RuleSettings, identity: Identity | None = None, no_match: Any = None) -> Rights:
    return acl(*rules, no_match=no_match).rights_of(identity or who(site="north"))


def rule(action: Any, *topics: Any, **more: Any) -> RuleSettings:
    return RuleSettings(action=action, topics=topics, **more)


def test_without_rules_there_is_nothing_to_ask() -> None:
    assert make_acl(AccessSettings()) is None
    assert make_acl(AccessSettings(no_match="allow")) is None


def test_D6_no_rules_and_deny_written_allows_nothing() -> None:
    nothing = rights(no_match="deny")
    assert not nothing.may_publish("a", 0, retain=False)
    assert not nothing.on_subscribe("a", 0).allows
    assert not nothing.may_receive("a")


def test_what_no_rule_names_is_denied_unless_it_is_written() -> None:
    assert not rights(rule("allow", "a")).may_publish("b", 0, retain=False)
    assert rights(rule("allow", "a"), no_match="allow").may_publish("b", 0, retain=False)


def test_the_first_rule_that_fits_decides_and_is_told() -> None:
    subject = rights(rule("deny", "a/secret"), rule("allow", "a/#"))
    assert subject.on_publish("a/secret", 0, retain=False).rule == 0
    assert subject.on_publish("a/b", 0, retain=False).rule == 1
    assert subject.on_publish("b", 0, retain=False).rule is None


def test_a_subscription_that_is_denied_in_part_is_made_and_that_part_not_delivered() -> None:
    subject = rights(rule("deny", "a/secret"), rule("allow", "a/#"))
    assert subject.on_subscribe("a/#", 0).allows
    assert not subject.on_subscribe("a/secret", 0).allows
    assert subject.may_receive("a/b")
    assert not subject.may_receive("a/secret")


def test_C16_in_a_group_it_is_not_made_for_another_member_would_miss_that_part() -> None:
    assert not rights(rule("deny", "a/secret"), rule("allow", "a/#")).on_subscribe("$share/g/a/#", 0).allows


def test_C16_groups_are_chosen_by_their_names() -> None:
    subject = rights(rule("allow", "a/#", on="subscribe", shared=("workers-*",)))
    assert subject.on_subscribe("$share/workers-1/a/b", 0).allows
    assert not subject.on_subscribe("$share/others/a/b", 0).allows
    assert not subject.on_subscribe("a/b", 0).allows


def test_a_subscription_is_allowed_by_one_rule_that_covers_all_of_it() -> None:
    subject = rights(rule("allow", "a/b"), rule("allow", "a/+/c"))
    for topic_filter, allows in (("a/b", True), ("a/+", False), ("a/#", False), ("a/x/c", True), ("#", False)):
        assert subject.on_subscribe(topic_filter, 0).allows is allows


def test_names_stand_for_what_is_known_of_a_device() -> None:
    made = acl(rule("allow", "plant/${site}/${client_id}-x/#", "of/${username}"))
    mine = made.rights_of(who(site="north"))
    assert mine.may_publish("plant/north/d1-x/t", 0, retain=False)
    assert mine.may_publish("of/ada", 0, retain=False)
    assert not mine.may_publish("plant/south/d1-x/t", 0, retain=False)
    siteless = made.rights_of(who(username=None))
    assert not siteless.may_publish("plant/north/d1-x/t", 0, retain=False)
    assert not siteless.may_publish("of/ada", 0, retain=False)
    assert not siteless.may_publish("of/None", 0, retain=False)


@pytest.mark.parametrize("value", ["+", "#", "a/../b", "a+", "", "a\0", "a\n", "$SYS", "$share"])
def test_D1_what_a_device_says_is_no_wildcard_and_no_separator(value: str) -> None:
    made = acl(rule("allow", "${client_id}/#"))
    with pytest.raises(UnsafeValueError):
        made.make_rights(who(value))
    subject = made.rights_of(who(value))
    for topic in ("a", "a/b", "$SYS/x", "other/t"):
        assert not subject.may_publish(topic, 0, retain=False)
        assert not subject.may_receive(topic)
    assert not subject.on_subscribe("#", 0).allows


def test_D1_what_no_rule_asks_for_may_be_as_it_likes() -> None:
    assert acl(rule("allow", "a")).make_rights(who("a/+")).may_publish("a", 0, retain=False)


def test_grants_of_credentials_come_after_the_rules() -> None:
    made = acl(rule("deny", "extra/s/secret"))
    subject = made.rights_of(who(grants=GRANTS))
    assert subject.may_publish("extra/p", 0, retain=False)
    assert not subject.may_publish("extra/s/1", 0, retain=False)
    assert subject.on_subscribe("extra/s/+", 0).allows
    assert not subject.may_receive("extra/s/secret")


def test_a_device_hears_why_its_messages_were_refused_whatever_the_rules_say() -> None:
    assert rights(no_match="deny").may_receive("$proxy/errors/d1")


def test_what_is_kept_of_answers_is_bounded() -> None:
    subject = rights(rule("allow", "#"))
    for number in range(1000):
        subject.may_publish(f"t/{number}", 0, retain=False)
        subject.may_receive(f"t/{number}")
    assert len(subject._publishes) <= 256
    assert len(subject._receives) <= 256


# The matrix.

LEVELS = ("a", "b", "north", "d1", "x1", "z")  # nobody's rule names z
PLAIN = ["/".join(levels) for depth in (1, 2, 3) for levels in product(LEVELS, repeat=depth)]
PLAIN += [f"{topic}/z" for topic in PLAIN if topic.count("/") == 2]
WORLD = [*PLAIN, "$SYS", *(f"$SYS/{topic}" for topic in PLAIN)]


@cache
def topics_of(topic_filter: str) -> frozenset[str]:
    """Return all topics of the world that a filter matches, by a regular expression."""
    pattern = re.escape(topic_filter).replace(r"\+", "[^/]+").replace("/\\#", "(/.*)?").replace(r"\#", ".*")
    wild = topic_filter[0] in "+#"
    return frozenset(topic for topic in WORLD if re.fullmatch(pattern, topic) and not (wild and topic.startswith("$")))


class Oracle:
    """Decides by listing."""

    def __init__(self, rules: list[dict[str, Any]], identity: Identity, *, no_match: bool) -> None:
        self.rules = [filled for one in rules if (filled := self.fill(one, identity)) is not None]
        self.no_match = no_match

    @staticmethod
    def fill(one: dict[str, Any], identity: Identity) -> dict[str, Any] | None:
        prefix = one.get("client_prefix")
        if prefix is not None and not identity.client_id.startswith(prefix):
            return None
        if one.get("site") is not None and identity.attributes.get("site") != one["site"]:
            return None
        topics = []
        for topic in one["topics"]:
            if "${site}" in topic and "site" not in identity.attributes:
                continue
            topics.append(
                topic.replace("${site}", identity.attributes.get("site", "")).replace(
                    "${client_id}", identity.client_id
                )
            )
        return {**one, "topics": topics}

    def publish(self, topic: str, qos: int, retain: bool) -> bool:
        for one in self.rules:
            if one["on"] == "subscribe" or (one["qos"] is not None and qos not in one["qos"]):
                continue
            if one["retain"] is not None and one["retain"] != retain:
                continue
            if any(topic in topics_of(mine) for mine in one["topics"]):
                return bool(one["action"] == "allow")
        return self.no_match

    def subscribe(self, topic_filter: str, qos: int, group: str | None) -> bool:
        wanted = topics_of(topic_filter)
        for one in self.rules:
            if one["on"] == "publish" or (one["qos"] is not None and qos not in one["qos"]):
                continue
            if one["shared"] is not None and one["shared"] != group:
                continue
            for mine in one["topics"]:
                if one["action"] == "deny" and group is not None and wanted & topics_of(mine):
                    return False
                if wanted <= topics_of(mine):
                    return bool(one["action"] == "allow")
        return self.no_match

    def receive(self, topic: str) -> bool:
        for one in self.rules:
            if one["on"] == "publish":
                continue
            if one["action"] == "deny" and (one["qos"] is not None or one["shared"] is not None):
                continue
            if any(topic in topics_of(mine) for mine in one["topics"]):
                return bool(one["action"] == "allow")
        return self.no_match


def some_filter(dice: random.Random, names: tuple[str, ...]) -> str:
    levels = [dice.choice((*names, "+")) for _ in range(dice.randint(1, 3))]
    if dice.random() < 0.35:
        levels[-1] = "#"
    return "$SYS/" + "/".join(levels[:2]) if dice.random() < 0.05 else "/".join(levels)


def some_rule(dice: random.Random) -> dict[str, Any]:
    on = dice.choice(("publish", "subscribe", "both"))
    names = ("a", "b", "${site}", "${client_id}")
    return {
        "action": dice.choice(("allow", "deny")),
        "on": on,
        "topics": [some_filter(dice, names) for _ in range(dice.randint(1, 2))],
        "qos": dice.choice((None, None, (0,), (1, 2))),
        "retain": dice.choice((None, True, False)) if on == "publish" else None,
        "shared": dice.choice((None, None, "g")) if on == "subscribe" else None,
        "client_prefix": dice.choice((None, None, "d", "x")),
        "site": dice.choice((None, None, None, "north")),
    }


def as_settings(one: dict[str, Any]) -> RuleSettings:
    when = WhenSettings(
        client_id=None if one["client_prefix"] is None else (one["client_prefix"] + "*",),
        attributes=None if one["site"] is None else (("site", (one["site"],)),),  # type: ignore[arg-type] # a NewType
    )
    shared = None if one["shared"] is None else (one["shared"],)
    return RuleSettings(
        action=one["action"], on=one["on"], topics=tuple(one["topics"]), qos=one["qos"], retain=one["retain"],
        shared=shared, when=when,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_the_matrix_of_rules_devices_and_topics_agrees_with_the_oracle(seed: int) -> None:
    dice = random.Random(seed)
    asked = 0
    for _ in range(10):
        rules = [some_rule(dice) for _ in range(dice.randint(1, 6))]
        no_match = dice.choice(("allow", "deny"))
        made = acl(*map(as_settings, rules), no_match=no_match)
        for identity in (who(), who(site="north"), who("x1", site="north"), who("b", None, site="a")):
            subject = made.rights_of(identity)
            oracle = Oracle(rules, identity, no_match=no_match == "allow")
            for topic in dice.sample(WORLD, 12):
                qos, retain = dice.randrange(3), dice.random() < 0.5
                assert subject.may_publish(topic, qos, retain) is oracle.publish(topic, qos, retain), (rules, topic)
                assert subject.may_receive(topic) is oracle.receive(topic), (rules, topic)
                topic_filter = some_filter(dice, ("a", "b", "north", "d1"))
                group = dice.choice((None, None, "g", "h"))
                full = topic_filter if group is None else f"$share/{group}/{topic_filter}"
                wanted = oracle.subscribe(topic_filter, qos, group)
                assert subject.on_subscribe(full, qos).allows is wanted, (rules, full)
                asked += 3
    assert asked == 10 * 4 * 12 * 3  # in all seeds together 57,600


def test_what_is_known_of_a_device_is_forgotten_with_it() -> None:
    made = acl(rule("allow", "a"))
    device = who()
    assert made.rights_of(device) is made.rights_of(device)
    assert len(made._known) == 1
    del device
    assert not made._known
