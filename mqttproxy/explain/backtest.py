"""Recorded messages judged by the rules in force and by others: what these would break, and what they would heal."""

from collections.abc import Iterable

from attrs import Factory, define

from mqttproxy.config.model import ProxyConfig
from mqttproxy.explain.recorded import identity_of, message_of
from mqttproxy.mqtt.packets import Message
from mqttproxy.recorder import Recorded
from mqttproxy.upstream.guard import LOOP, admit
from mqttproxy.validation import Generation, judge
from mqttproxy.validation.comparison import Comparison, outcome_of
from mqttproxy.validation.plugins import ASKED_BEFORE


@define
class Backtest:
    """What came of it. A message that is only observed passes: it is carried, and its device hears nothing.

    Plug-in checks are asked by neither of them: their answers to thousands of messages would take hours.
    """

    comparison: Comparison = Factory(Comparison)
    masked: int = 0  # judged as they were recorded, with masked values: each of them may be judged wrongly
    hidden: int = 0  # not judged: masked as a whole
    otherwise: int = 0  # judged otherwise now than when they came: masks, another configuration, behaviour rules
    without_plugins: bool = False  # some policy has checks that were not asked
    first: float | None = None  # seconds since 1970, of the oldest and of the newest
    last: float | None = None

    @property
    def messages(self) -> int:
        """Return how many there were."""
        return self.comparison.total.messages + self.hidden


def backtest(
    recorded: Iterable[Recorded], config: ProxyConfig, now: Generation, then: Generation, result: Backtest | None = None
) -> Backtest:
    """Judge messages by both.

    Args:
        recorded: messages.
        config: in force.
        now: its rules.
        then: the other rules.
        result: what to add to.

    """
    result = result or Backtest()
    result.without_plugins = any(policy.plugins for rules in (now, then) for policy in rules.policies)
    for one in recorded:
        result.first = one.at if result.first is None else min(result.first, one.at)
        result.last = one.at if result.last is None else max(result.last, one.at)
        if one.told.masked == "wholly":
            result.hidden += 1
            continue
        result.masked += one.told.masked == "partly"
        message, identity = _admitted(message_of(one), config), identity_of(one)
        before = outcome_of(judge(message, identity, now, ASKED_BEFORE))
        after = outcome_of(judge(message, identity, then, ASKED_BEFORE))
        failed = bool(one.told.failures) and one.told.action in ("held", "refused", "marked")
        result.otherwise += failed is not before.fails
        result.comparison.add(
            before, after, device=identity.client_id, attributes=identity.attributes, topic=one.topic,
            message_id=one.name,
        )  # fmt: skip
    return result


def _admitted(message: Message, config: ProxyConfig) -> Message:
    """Return the message as it is judged, without what only proxies may say of it."""
    if not message.properties.user_properties:
        return message
    admitted = admit(message, config.proxy.id, config.proxy.hop_limit)
    return message if admitted is LOOP else admitted
