"""What devices want, told to `Interest` in the upstream's names; and what came, told in ours."""

from collections.abc import Sequence

import trio
from attrs import define
from msgspec.structs import replace

from mqttproxy.mqtt.client import ServerTerms
from mqttproxy.mqtt.packets import Message, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import SHARE, matches, split_shared
from mqttproxy.upstream.askers import Askers
from mqttproxy.upstream.callbacks import Arrival
from mqttproxy.upstream.interest import EVERYBODY, Asking, Interest
from mqttproxy.upstream.mapping import NO_MAP, TopicMap
from mqttproxy.upstream.outbox import Item
from mqttproxy.upstream.shaping import Shaped


@define(eq=False)
class _Wanted:
    """A local filter that at least one device wants, and what is asked of the upstream for it."""

    names: tuple[str, ...]
    private: tuple[str, ...]  # the same names, as shared subscriptions that nobody else has
    devices: int = 0
    flagged: int = 0  # of them those that want the retain flag as it was published
    qos: int = 0


class Naming:
    """Stands between one upstream's `Interest` and everybody who speaks of local topics.

    `topics` is the map in force. What devices want beside topics is asked for as follows:

    - `$share/group/filter`: as it is, once for all members here, so that the broker deals out to us and to others what
      we deal out to the members. A broker without shared subscriptions is asked for the plain filter.
    - The retain flag as it was published: by a shared subscription whose group is ours alone. It brings no stored
      messages, so a flag on what it brings is the publisher's. As soon as the broker has granted it, its copies are for
      those devices, and those of the plain filter for the others. Without shared subscriptions the flag is lost.

    """

    def __init__(self, interest: Interest, topics: TopicMap, group: str = "", *, shared: bool = True) -> None:
        """Begin with nothing wanted.

        Args:
            interest: what is asked of the broker.
            topics: what topics are called there.
            group: a name that nobody else uses there; it may hold any character.
            shared: whether the broker has shared subscriptions, as far as is known.

        """
        self.topics = topics
        self._interest = interest
        self._private = _private(group)
        self._shared = shared
        self.unplaced = 0  # what came so far and has no place here
        self.unclaimed = 0  # what came and nobody waited for: retained, or for subscriptions of an earlier process
        self._askers = Askers()
        self._wanted: dict[str, _Wanted] = {}
        self._local: dict[str, dict[str, None]] = {}  # the upstream's filters, and the local ones they are asked for

    def add(
        self, topic_filter: str, qos: int, *, retained_for: object | None = None, as_published: bool = False
    ) -> None:
        """Count one more device that wants a local filter; see `Upstream.subscribe`."""
        if topic_filter.startswith(SHARE):
            retained_for, as_published = None, False  # what is shared brings nothing stored, and the flag as it is
        wanted = self._wanted.get(topic_filter)
        if wanted is None:
            wanted = self._wanted[topic_filter] = self._named(topic_filter)
            self._note(topic_filter, wanted)
        wanted.devices += 1
        wanted.flagged += as_published
        wanted.qos = max(wanted.qos, qos)
        if as_published:
            for name in wanted.private:
                self._interest.add(name, qos, is_copy=True)
        for name in wanted.names:
            self._interest.add(name, qos, retained_for)

    def remove(self, topic_filter: str, *, as_published: bool = False) -> None:
        """Count one device less; a filter that nobody wants means nothing."""
        wanted = self._wanted.get(topic_filter)
        if wanted is None:
            return
        wanted.devices -= 1
        if not wanted.devices:
            del self._wanted[topic_filter]
            self._forget(topic_filter, wanted)
        if as_published and wanted.flagged:
            wanted.flagged -= 1
            for name in wanted.private:
                self._interest.remove(name)
        for name in wanted.names:
            self._interest.remove(name)

    async def wait(self, topic_filter: str) -> ReasonCode:
        """Wait for the answers to everything that was asked so far for a local filter; returns the worst of them."""
        wanted = self._wanted.get(topic_filter)
        if wanted is None:
            await trio.lowlevel.checkpoint()
            return ReasonCode.NO_SUBSCRIPTION_EXISTED
        if wanted.flagged:
            for name in wanted.private:
                await self._interest.wait(name)  # refused, it costs the flag, not the subscription
        answers = [await self._interest.wait(name) for name in wanted.names]
        if not answers:
            await trio.lowlevel.checkpoint()
            return ReasonCode.SUCCESS  # no topic of this upstream can match: there is nobody to refuse it
        failures = [answer for answer in answers if answer.is_failure]
        return max(failures) if failures else min(answers)

    def use(self, topics: TopicMap, group: str) -> None:
        """Put another map in force: ask for what devices want under its names, end what has another one now."""
        self.topics = topics
        self._private = _private(group)
        self._rename()

    def begin(self, terms: ServerTerms) -> None:
        """A link came up, to a broker that says what it has."""
        self._askers = Askers()
        # Without identifiers a message does not say whether a shared subscription brought it.
        shared = terms.shared_subscriptions and terms.subscription_identifiers
        if shared != self._shared:
            self._shared = shared
            self._rename()

    def _rename(self) -> None:
        self._local.clear()
        for topic_filter, wanted in self._wanted.items():
            named = self._named(topic_filter)
            # First what is wanted now, so that what keeps its name is not ended.
            for before, after, devices in (
                (wanted.private, named.private, wanted.flagged),
                (wanted.names, named.names, wanted.devices),
            ):
                for _ in range(devices):
                    for name in after:
                        self._interest.add(name, wanted.qos, is_copy=after is named.private)
                    for name in before:
                        self._interest.remove(name)
            wanted.names, wanted.private = named.names, named.private
            self._note(topic_filter, wanted)

    def asked(self, asking: Asking, terms: ServerTerms, now: float) -> None:
        """Hear that an asking went to the broker."""
        if asking.retained_for and not terms.subscription_identifiers:
            self._askers.note(asking.topic_filter, asking.retained_for, now)

    def arrivals(self, arrived: list[Publish], now: float) -> list[Arrival]:
        """Return what came, under local names and with those it came for.

        Left out is what has no place here, and what nobody waits for, retained or for a subscription that an earlier
        process has left behind; both are counted.
        """
        found = []
        for publish in arrived:
            local = publish if self.topics is NO_MAP else self.topics.message_to_local(publish)
            if local is None:
                self.unplaced += 1
                continue
            identifiers = publish.properties.subscription_identifiers
            askings = [asking for number in identifiers if (asking := self._interest.asking_of(number)) is not None]
            interest = self._interest
            if interest.is_adopted and interest.is_stale(identifiers, publish.qos):
                arrival = None
            elif askings:
                arrival = self._named_arrival(local, publish.topic, askings)
            else:
                arrival = self._other(local, publish.topic, now)
            if arrival is None:
                self.unclaimed += 1
            else:
                found.append(arrival)
        return found

    def _named_arrival(self, publish: Publish, remote: str, askings: Sequence[Asking]) -> Arrival | None:
        """Return what came for these askings, or None: it is retained, and nobody waits for it."""
        filters: dict[str, None] = {}
        flagged: dict[str, None] = {}
        retained_for: list[object] = []
        is_live = not publish.retain
        for asking in askings:
            name = asking.topic_filter
            is_private = name.startswith(self._private)
            for topic_filter in self._local.get(name, ()):
                wanted = self._wanted[topic_filter]
                # A local filter that was asked for by several names may bring a message more than once; only by its
                # first name that matches does it count.
                names = wanted.private if is_private else wanted.names
                if len(names) > 1 and _first(names, remote) != name:
                    continue
                if not is_private:
                    filters[topic_filter] = None
                if is_private or not (wanted.flagged and self._interest.is_active(f"{self._private}{name}")):
                    flagged[topic_filter] = None
            if name.startswith(SHARE):
                is_live = True
            else:
                retained_for += asking.retained_for
        if is_live:
            return Arrival(publish, tuple(filters), tuple(flagged))
        return _retained(publish, tuple(filters), retained_for)

    def _other(self, publish: Publish, remote: str, now: float) -> Arrival | None:
        """Return what came without saying for which asking, or None: it is retained, and nobody waits for it."""
        if publish.retain:
            return _retained(publish, None, self._askers.claim(remote, now))
        self._askers.saw(remote, now)
        return Arrival(publish)

    def departures(self, items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """Return what goes, under the upstream's names, and what has no place there, as it is."""
        named: list[Item] = []
        homeless: list[Item] = []
        for message, token in items:
            remote = self.topics.message_to_remote(message)
            if remote is None:
                homeless.append((message.original if isinstance(message, Shaped) else message, token))
            else:
                named.append((remote, token))
        return named, homeless

    def local(self, message: Message) -> Message:
        """Return a message that went, as it came to us; what another map has named may keep that name."""
        if isinstance(message, Shaped):
            return message.original
        return message if self.topics is NO_MAP else self.topics.message_to_local(message) or message

    def _named(self, topic_filter: str) -> _Wanted:
        group, plain = split_shared(topic_filter)
        names = self.topics.filters_to_remote(topic_filter if self._shared else plain)
        has_private = self._shared and group is None
        return _Wanted(names, tuple(f"{self._private}{name}" for name in names) if has_private else ())

    def _note(self, topic_filter: str, wanted: _Wanted) -> None:
        for name in (*wanted.names, *wanted.private):
            self._local.setdefault(name, {})[topic_filter] = None

    def _forget(self, topic_filter: str, wanted: _Wanted) -> None:
        for name in (*wanted.names, *wanted.private):
            filters = self._local[name]
            del filters[topic_filter]
            if not filters:
                del self._local[name]


def _retained(publish: Publish, filters: tuple[str, ...] | None, retained_for: list[object]) -> Arrival | None:
    if EVERYBODY in retained_for:
        return Arrival(replace(publish, retain=False), filters, filters)  # an update: they are subscribed already
    if not retained_for or filters == ():
        return None
    return Arrival(publish, filters, filters, tuple(retained_for))


def _first(names: tuple[str, ...], remote: str) -> str:
    return next((name for name in names if matches(split_shared(name)[1], remote)), "")


def _private(group: str) -> str:
    """Return what stands before a filter that is shared with nobody. Two groups never become one."""
    for character in "%/+#":
        group = group.replace(character, f"%{ord(character):02X}")
    return f"{SHARE}{group}/"
