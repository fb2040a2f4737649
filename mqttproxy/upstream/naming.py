"""What devices want, told to `Interest` in the upstream's names; and what came, told in ours."""

from collections.abc import Sequence

import trio
from attrs import define

from mqttproxy.mqtt.packets import Message, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import matches, split_shared
from mqttproxy.upstream.callbacks import Arrival
from mqttproxy.upstream.interest import Interest
from mqttproxy.upstream.mapping import NO_MAP, TopicMap
from mqttproxy.upstream.outbox import Item


@define(eq=False)
class _Wanted:
    """A local filter that at least one device wants, and what is asked of the upstream for it."""

    names: tuple[str, ...]
    devices: int = 0
    qos: int = 0


class Naming:
    """Stands between one upstream's `Interest` and everybody who speaks of local topics. Without a map it only counts.

    `topics` is the map in force.
    """

    def __init__(self, interest: Interest, topics: TopicMap) -> None:
        self.topics = topics
        self._interest = interest
        self._wanted: dict[str, _Wanted] = {}
        self._local: dict[str, dict[str, None]] = {}  # the upstream's filters, and the local ones they are asked for

    def add(self, topic_filter: str, qos: int) -> None:
        """Count one more device that wants a local filter."""
        wanted = self._wanted.get(topic_filter)
        if wanted is None:
            wanted = self._wanted[topic_filter] = _Wanted(self.topics.filters_to_remote(topic_filter))
            self._note(topic_filter, wanted)
        wanted.devices += 1
        wanted.qos = max(wanted.qos, qos)
        for name in wanted.names:
            self._interest.add(name, qos)

    def remove(self, topic_filter: str) -> None:
        """Count one device less; a filter that nobody wants means nothing."""
        wanted = self._wanted.get(topic_filter)
        if wanted is None:
            return
        wanted.devices -= 1
        if not wanted.devices:
            del self._wanted[topic_filter]
            self._forget(topic_filter, wanted)
        for name in wanted.names:
            self._interest.remove(name)

    async def wait(self, topic_filter: str) -> ReasonCode:
        """Wait for the answers to everything that was asked so far for a local filter; returns the worst of them."""
        wanted = self._wanted.get(topic_filter)
        if wanted is None:
            await trio.lowlevel.checkpoint()
            return ReasonCode.NO_SUBSCRIPTION_EXISTED
        answers = [await self._interest.wait(name) for name in wanted.names]
        if not answers:
            await trio.lowlevel.checkpoint()
            return ReasonCode.SUCCESS  # no topic of this upstream can match: there is nobody to refuse it
        failures = [answer for answer in answers if answer.is_failure]
        return max(failures) if failures else min(answers)

    def use(self, topics: TopicMap) -> None:
        """Put another map in force: ask for what devices want under its names, end what has another one now."""
        self.topics = topics
        self._local.clear()
        for topic_filter, wanted in self._wanted.items():
            before, wanted.names = wanted.names, topics.filters_to_remote(topic_filter)
            self._note(topic_filter, wanted)
            for _ in range(wanted.devices):
                for name in wanted.names:  # first, so that what keeps its name is not ended
                    self._interest.add(name, wanted.qos)
                for name in before:
                    self._interest.remove(name)

    def arrivals(self, arrived: list[Publish]) -> list[Arrival]:
        """Return what came, under local names and with the local filters it came for, but what has no place."""
        filters_of = self._interest.filters_of
        if self.topics is NO_MAP:
            return [(publish, filters_of(publish)) for publish in arrived]
        found = []
        for publish in arrived:
            local = self.topics.message_to_local(publish)
            if local is not None:
                found.append((local, self._local_filters(filters_of(publish), publish.topic)))
        return found

    def departures(self, items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """Return what goes, under the upstream's names, and what has no place there, as it is."""
        named: list[Item] = []
        homeless: list[Item] = []
        for message, token in items:
            remote = self.topics.message_to_remote(message)
            if remote is None:
                homeless.append((message, token))
            else:
                named.append((remote, token))
        return named, homeless

    def local(self, message: Message) -> Message:
        """Return a message that went, under its local name again; what another map has named may keep that name."""
        return message if self.topics is NO_MAP else self.topics.message_to_local(message) or message

    def _local_filters(self, names: tuple[str, ...] | None, remote: str) -> tuple[str, ...] | None:
        if names is None:
            return None
        # A local filter that was asked for by several names may bring a message more than once; only by its first
        # name that matches does it count.
        return tuple(
            dict.fromkeys(
                topic_filter
                for name in names
                for topic_filter in self._local.get(name, ())
                if self._first(self._wanted[topic_filter].names, remote) == name
            )
        )

    def _first(self, names: tuple[str, ...], remote: str) -> str:
        if len(names) == 1:
            return names[0]
        return next((name for name in names if matches(split_shared(name)[1], remote)), "")

    def _note(self, topic_filter: str, wanted: _Wanted) -> None:
        for name in wanted.names:
            self._local.setdefault(name, {})[topic_filter] = None

    def _forget(self, topic_filter: str, wanted: _Wanted) -> None:
        for name in wanted.names:
            filters = self._local[name]
            del filters[topic_filter]
            if not filters:
                del self._local[name]
