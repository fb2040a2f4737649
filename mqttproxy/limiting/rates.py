"""`[[limits.rates]]` at work: connections, messages and bytes of whoever is counted together.

What a rule remembers of a key is let go of when as many others were heard of later as may be remembered. While a device
that it is for is connected it stays all the same, so nobody gets room by having himself forgotten.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Final
from weakref import WeakValueDictionary

import trio
from attrs import define, field

from mqttproxy.config.limiting import RateSettings, parse_windows
from mqttproxy.config.model import LimitSettings
from mqttproxy.config.units import write_duration, write_size
from mqttproxy.limiting.buckets import Bucket, Window
from mqttproxy.mqtt.events import Event
from mqttproxy.mqtt.packets import NO_PROPERTIES, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.telemetry.limited import LimitingMetrics
from mqttproxy.transport.addresses import counted_as
from mqttproxy.validation import Action, Failure, Identity, Verdict

SHARE: Final = 10  # of a window, at most one of so many is waited for at once: who is counted together takes turns

_KEYS: Final[dict[str, Callable[[Identity], str | None]]] = {
    "client": lambda identity: identity.client_id,
    "username": lambda identity: identity.username,
    "address": lambda identity: counted_as(identity.address),
    "listener": lambda identity: identity.listener,
}

# Whoever connects cannot choose these, nor be taken for somebody else by them: they are asked before credentials are.
_UNCLAIMED: Final = frozenset({"address", "listener"})


def size_of(publish: Publish) -> int:
    """Return the bytes of a message, as rates count them."""
    size = len(publish.topic) + len(publish.payload)
    if (properties := publish.properties) is not NO_PROPERTIES:
        size += len(properties.correlation_data or b"") + len(properties.response_topic or "")
        size += sum(len(name) + len(value) for name, value in properties.user_properties)
    return size


class Rule:
    """One rule, with the bucket of each key."""

    def __init__(self, settings: RateSettings, most: int, metrics: LimitingMetrics) -> None:
        self.name: Final = settings.name
        self.counts_bytes: Final = settings.what == "bytes"
        self.windows: Final = tuple(Window(*window) for window in parse_windows(settings.windows) or ())
        least = min(window.amount for window in self.windows)
        self.share: Final = max(1, least // SHARE)
        self.is_unclaimed: Final = settings.per in _UNCLAIMED
        self._per: Final = settings.per
        self._what: Final = settings.what
        self._most: Final = most
        self._metrics: Final = metrics
        self._recent: OrderedDict[str, Bucket] = OrderedDict()
        self._used: WeakValueDictionary[str, Bucket] = WeakValueDictionary()  # those, and those of whoever is connected

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._used)

    def bucket(self, identity: Identity, now: float) -> Bucket:
        """Return what is remembered of whoever this device is counted with."""
        key_of = _KEYS.get(self._per)
        key = (key_of(identity) if key_of is not None else identity.attributes.get(self._per)) or ""
        bucket = self._recent.get(key)
        if bucket is not None:
            self._recent.move_to_end(key)
            return bucket
        bucket = self._used.get(key)
        if bucket is None:
            bucket = self._used[key] = Bucket(self.windows)
        self._recent[key] = bucket
        if len(self._recent) > self._most:
            _, oldest = self._recent.popitem(last=False)
            self._metrics.rate_forgotten += not oldest.is_full(now)
        return bucket

    def units(self, publishes: Iterable[Publish]) -> int:
        """Return what messages count for."""
        return sum(map(size_of, publishes)) if self.counts_bytes else len(list(publishes))

    @property
    def words(self) -> str:
        """What it allows, for people."""
        amounts = (
            write_size(one.amount) if self.counts_bytes else f"{one.amount} {self._what}" for one in self.windows
        )
        told = (f"{amount} in {write_duration(one.seconds)}" for amount, one in zip(amounts, self.windows, strict=True))
        per = self._per if self._per in _KEYS else f"attribute {self._per}"
        return f"more than {' or '.join(told)} for each {per}"


class Pace:
    """How fast one device is read: by all rules that pause for messages or bytes."""

    __slots__ = ("_metrics", "_paid", "_rules")

    def __init__(self, rules: Sequence[tuple[Rule, Bucket]], metrics: LimitingMetrics) -> None:
        self._rules = rules
        self._metrics = metrics
        self._paid = 0  # messages that were counted when they began to wait

    def room(self, publishes: Sequence[Publish], now: float) -> int:
        """Return how many of the first of these may be carried now."""
        count = len(publishes)
        if self._paid:
            return min(count, self._paid)
        for rule, bucket in self._rules:
            room = bucket.room(now)
            if not rule.counts_bytes:
                count = min(count, max(room, 0))
                continue
            for index, publish in enumerate(publishes[:count]):
                if room < 1:  # what does not fit whole is let through as the last: else the largest never would be
                    count = index
                    break
                room -= size_of(publish)
        return count

    def take(self, publishes: Sequence[Publish], now: float) -> bool:
        """Count these, which are carried now. Always true."""
        if self._paid:
            self._paid -= len(publishes)
            return True
        for rule, bucket in self._rules:
            bucket.take(now, rule.units(publishes))
        return True

    async def wait(self, events: Sequence[Event]) -> None:
        """Wait for the turn of the first of what was read. It is counted at once: who waits longest is next."""
        publishes: list[Publish] = list(takewhile(_is_publish, events))  # type: ignore[arg-type] # all are
        if not publishes or self._paid:
            return
        now = trio.current_time()
        turn = publishes[: self._turn(publishes)]
        waits = [(bucket.wait(now, rule.units(turn)), rule) for rule, bucket in self._rules]
        for rule, bucket in self._rules:
            bucket.take(now, rule.units(turn))
        self._paid = len(turn)
        seconds, longest = max(waits, key=lambda one: one[0])
        if seconds > 0:
            self._metrics.rate_pauses.add(longest.name)
            await trio.sleep(seconds)

    def _turn(self, publishes: Sequence[Publish]) -> int:
        count = len(publishes)
        for rule, _ in self._rules:
            left = rule.share
            for index, publish in enumerate(publishes[:count]):
                left -= size_of(publish) if rule.counts_bytes else 1
                if left < 0 and index:
                    count = index
                    break
        return count


def _is_publish(event: Event) -> bool:
    return type(event) is Publish


@define(eq=False)
class Rates:
    """All rules of the process."""

    limits: LimitSettings
    metrics: LimitingMetrics
    refusing: tuple[Rule, ...] = field(init=False)  # messages and bytes
    _connecting: tuple[tuple[Rule, bool], ...] = field(init=False)  # and whether it may wait
    _pausing: tuple[Rule, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Sort them by what they are asked for."""
        made = [(Rule(one, self.limits.rate_keys, self.metrics), one) for one in self.limits.rates]
        messages = [(rule, one.when_exceeded) for rule, one in made if one.what != "connections"]
        self._connecting = tuple(
            (rule, one.when_exceeded == "pause") for rule, one in made if one.what == "connections"
        )
        self._pausing = tuple(rule for rule, what in messages if what == "pause")
        self.refusing = tuple(rule for rule, what in messages if what == "refuse")

    @property
    def keys(self) -> int:
        """How many keys all rules remember."""
        return sum(map(len, (*self.refusing, *self._pausing, *(rule for rule, _ in self._connecting))))

    def connect(self, identity: Identity, now: float, patience: float, *, is_known: bool) -> tuple[Rule | None, float]:
        """Ask whether a device may connect, and count it if it may.

        Args:
            identity: of the device.
            now: monotonic seconds.
            patience: how many seconds it may have to wait.
            is_known: who it is has been proven, and it is asked for that. Before, only for where it comes from.

        Returns:
            The rule by which it may not, or None; and in how many seconds it may.

        """
        longest = 0.0
        asked = [
            (rule, can_wait, rule.bucket(identity, now))
            for rule, can_wait in self._connecting
            if rule.is_unclaimed is not is_known
        ]
        slowest: Rule | None = None
        for rule, can_wait, bucket in asked:
            seconds = bucket.wait(now)
            if seconds > (patience if can_wait else 0.0):
                self.metrics.rate_refused.add(rule.name)
                return rule, seconds
            if seconds > longest:
                longest, slowest = seconds, rule
        for _, _, bucket in asked:
            bucket.take(now)
        if slowest is not None:
            self.metrics.rate_pauses.add(slowest.name)
        return None, longest

    def pace(self, identity: Identity, now: float) -> Pace | None:
        """Return how fast a device is read, None: as fast as can be."""
        if not self._pausing:
            return None
        return Pace([(rule, rule.bucket(identity, now)) for rule in self._pausing], self.metrics)

    def judge(self, publish: Publish, identity: Identity, now: float) -> Verdict | None:
        """Return the verdict on a message that is one too many, None: it is not, and was counted."""
        asked = [(rule, rule.bucket(identity, now)) for rule in self.refusing]
        for rule, bucket in asked:
            if bucket.room(now) < 1:
                self.metrics.rate_refused.add(rule.name)
                return Verdict(
                    action=Action.REFUSE,
                    policy=rule.name,
                    failures=(Failure("", "rate", rule.words),),
                    reason=ReasonCode.QUOTA_EXCEEDED,
                )
        for rule, bucket in asked:
            bucket.take(now, size_of(publish) if rule.counts_bytes else 1)
        return None
