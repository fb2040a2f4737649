"""What devices may publish, subscribe to and receive: `[[access.rules]]`, the first that fits decides.

Rules are made for a device once, with what is known of it filled in, and their answers for topics are kept. So what
they cost per message is to look one up.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final
from weakref import ref

from attrs import frozen

from mqttproxy.access.rules import ERROR_TOPICS
from mqttproxy.config.admitting import RuleSettings
from mqttproxy.config.conditions import Glob
from mqttproxy.config.model import AccessSettings
from mqttproxy.config.topic_templates import TopicParts, UnsafeValueError, parse_topic
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.topics import matches, overlaps, split_shared
from mqttproxy.upstream.routing import covers
from mqttproxy.validation import Identity
from mqttproxy.validation.selector import Selector, make_selector

KEPT_TOPICS: Final = 64  # answers that are kept for one device, in each direction


@frozen
class Decision:
    """What was decided, and by which rule: its number in the file, from 0; None: no rule fitted."""

    allows: bool
    rule: int | None = None
    words: str = "no rule fits"


@frozen
class _Rule:
    """A rule as it stands for one device."""

    number: int
    settings: RuleSettings
    filters: tuple[str, ...]
    shared: tuple[Glob, ...] | None

    def decision(self) -> Decision:
        return Decision(self.settings.action == "allow", self.number, f"access.rules[{self.number}]")


class Rights:
    """What one device may do."""

    def __init__(self, rules: Iterable[_Rule], grants: Iterable[tuple[str, str]], *, otherwise: bool) -> None:
        rules = list(rules)
        self._publish = [rule for rule in rules if rule.settings.on != "subscribe"]
        self._subscribe = [rule for rule in rules if rule.settings.on != "publish"]
        self._granted = {what: [topic for one, topic in grants if one == what] for what in ("publish", "subscribe")}
        self._otherwise = Decision(otherwise)
        self._publishes: dict[tuple[str, int, bool], bool] = {}
        self._receives: dict[str, bool] = {}

    def may_publish(self, topic: str, qos: int, retain: bool) -> bool:
        """Tell whether a message may be published, by topic name."""
        key = (topic, qos, retain)
        known = self._publishes.get(key)
        if known is None:
            if len(self._publishes) >= KEPT_TOPICS:
                self._publishes.clear()
            known = self._publishes[key] = self.on_publish(topic, qos, retain=retain).allows
        return known

    def allow(self, message: Message) -> bool:
        """Tell whether its device may publish a message."""
        return self.may_publish(message.topic, message.qos, message.retain)

    def may_receive(self, topic: str) -> bool:
        """Tell whether a message may be delivered, by topic name: it may be that only a part of a filter is allowed."""
        known = self._receives.get(topic)
        if known is None:
            if len(self._receives) >= KEPT_TOPICS:
                self._receives.clear()
            known = self._receives[topic] = self.on_receive(topic).allows
        return known

    def on_publish(self, topic: str, qos: int, *, retain: bool) -> Decision:
        """Decide on a message."""
        for rule in self._publish:
            settings = rule.settings
            if settings.qos is not None and qos not in settings.qos:
                continue
            if settings.retain is not None and settings.retain is not retain:
                continue
            if any(matches(one, topic) for one in rule.filters):
                return rule.decision()
        return self._granted_or_not("publish", lambda granted: matches(granted, topic))

    def on_subscribe(self, topic_filter: str, qos: int) -> Decision:
        """Decide on a subscription: a filter is allowed by a rule that covers all of it.

        A rule that denies a part of it before makes that part not be delivered. In a group, where another member would
        miss it, it denies all.
        """
        group, plain = split_shared(topic_filter)
        for rule in self._subscribe:
            settings = rule.settings
            if settings.qos is not None and qos not in settings.qos:
                continue
            if rule.shared is not None and (group is None or not any(glob.fits(group) for glob in rule.shared)):
                continue
            meets = overlaps if settings.action == "deny" and group is not None else covers
            if any(meets(one, plain) for one in rule.filters):
                return rule.decision()
        return self._granted_or_not("subscribe", lambda granted: covers(granted, plain))

    def on_receive(self, topic: str) -> Decision:
        """Decide on a message for the device. What the subscription itself is like was decided when it was made."""
        if topic.startswith(ERROR_TOPICS):
            return Decision(True, None, "its own error topic")  # nobody can subscribe to another one's
        for rule in self._subscribe:
            settings = rule.settings
            if settings.action == "deny" and (settings.qos is not None or rule.shared is not None):
                continue
            if any(matches(one, topic) for one in rule.filters):
                return rule.decision()
        return self._granted_or_not("subscribe", lambda granted: matches(granted, topic))

    def _granted_or_not(self, what: str, fits: Callable[[str], bool]) -> Decision:
        if any(map(fits, self._granted[what])):
            return Decision(True, None, "its credentials")
        return self._otherwise


NO_RIGHTS: Final = Rights((), (), otherwise=False)


class Acl:
    """The rules of a configuration."""

    def __init__(self, access: AccessSettings) -> None:
        self._rules = [_parsed(number, settings) for number, settings in enumerate(access.rules)]
        self._otherwise = access.no_match == "allow" if access.no_match else not access.has_rules
        # By identity, which is made once for a connection, and as long as that is there.
        self._known: dict[int, tuple[ref[Identity], Rights]] = {}

    def rights_of(self, identity: Identity) -> Rights:
        """Return what a device may do: nothing, if what is known of it would mean more than its text in a topic."""
        number = id(identity)
        known = self._known.get(number)
        if known is not None:  # its end takes it away, before another one can have its number
            return known[1]
        try:
            rights = self.make_rights(identity)
        except UnsafeValueError:
            rights = NO_RIGHTS
        forget = self._known.pop
        self._known[number] = (ref(identity, lambda _: forget(number, None)), rights)
        return rights

    def make_rights(self, identity: Identity) -> Rights:
        """Return what a device may do.

        Raises:
            UnsafeValueError: what is known of it cannot be used in topics. It must not come in.

        """
        values = {**identity.attributes, "client_id": identity.client_id, "username": identity.username}
        found = []
        for number, settings, selector, topics, shared in self._rules:
            if selector is not None and selector.why_not(identity) is not None:
                continue
            filters = [one for topic in topics if (one := topic.fill(values.get)) is not None]
            if filters:
                found.append(_Rule(number, settings, tuple(filters), shared))
        return Rights(found, identity.grants, otherwise=self._otherwise)


_Parsed = tuple[int, RuleSettings, Selector | None, Sequence[TopicParts], tuple[Glob, ...] | None]


def _parsed(number: int, settings: RuleSettings) -> _Parsed:
    topics = [parsed for topic in settings.topics if isinstance(parsed := parse_topic(topic), TopicParts)]
    shared = None if settings.shared is None else tuple(map(Glob, settings.shared))
    return number, settings, make_selector(settings.when), topics, shared


def make_acl(access: AccessSettings) -> Acl | None:
    """Return the rules, or None: there are none, and everything is allowed."""
    return Acl(access) if access.has_rules else None
