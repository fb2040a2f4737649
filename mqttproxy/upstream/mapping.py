"""What topics are called at one upstream: names and filters there and back.

Entries do not overlap on either side (`config.mapping_checks`), and a topic that no entry covers keeps its name. A name
that would then mean two topics has no place on the other side: a local topic called as an entry calls its remote ones,
or a remote one called as an entry calls its local ones. So no two topics ever share a name, and what was mapped comes
back as it was. Topics that begin with `$` keep their names.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from attrs import frozen
from msgspec.structs import replace

from mqttproxy.config.mapping_checks import as_filter, is_capture
from mqttproxy.config.model import TopicMapping, UpstreamSettings
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message
from mqttproxy.mqtt.topics import SHARE, FilterTree, overlaps, split_shared
from mqttproxy.upstream.routing import covers

CACHED_TOPICS: Final = 10_000  # in each direction
LONGEST_TOPIC: Final = 65_535  # bytes; two of them say how many. [MQTT-1.5.4]

M = TypeVar("M", bound=Message)


@frozen
class _Way:
    """One entry in one direction."""

    source: str  # as a topic filter
    target: str
    fixed: tuple[str, ...]  # levels of the source but for its `#`
    has_rest: bool
    template: tuple[str | int, ...]  # levels of the target: as they are, or which one of the source

    def name_of(self, topic: str) -> str | None:
        """Return the name of a topic that the source matches; None: there cannot be such a topic."""
        return self._fill(topic.split("/"))

    def filter_of(self, topic_filter: str) -> str | None:
        """Return a filter for the names of exactly those topics that this filter and the source match."""
        if not overlaps(self.source, topic_filter):
            return None
        levels = topic_filter.split("/")
        if levels[-1] == "#" and len(levels) <= len(self.fixed):
            levels[-1:] = [*self.fixed[len(levels) - 1 :], "#"]  # it stands for the rest of our levels, and for more
        return self._fill(levels)

    def _fill(self, levels: Sequence[str]) -> str | None:
        filled = [levels[part] if isinstance(part, int) else part for part in self.template]
        if self.has_rest:
            filled += levels[len(self.fixed) :]
        name = "/".join(filled)
        if not name or name[0] == "$" or len(name.encode()) > LONGEST_TOPIC:
            return None
        return name


class _Direction:
    """All entries in one direction."""

    def __init__(self, ways: Sequence[_Way]) -> None:
        self._ways: FilterTree[_Way] = FilterTree()
        self._taken: FilterTree[_Way] = FilterTree()
        for way in ways:
            self._ways.add(way.source, way)
            self._taken.add(way.target, way)
        self._known: dict[str, str | None] = {}

    def name_of(self, topic: str) -> str | None:
        """Return what a topic is called on the other side; None: it has no place there."""
        try:
            return self._known[topic]
        except KeyError:
            return self._find(topic)

    def _find(self, topic: str) -> str | None:
        name: str | None = topic
        if found := self._ways.match(topic):
            name = found[0].name_of(topic)
        elif self._taken.match(topic):
            name = None
        if len(self._known) >= CACHED_TOPICS:
            self._known.clear()
        self._known[topic] = name
        return name


class TopicMap:
    """The names of one upstream's topics. Immutable but for its memory; a change of settings makes a new one."""

    def __init__(self, mappings: Sequence[TopicMapping] = ()) -> None:
        self._ways = tuple(_way(entry.local, entry.remote) for entry in mappings)
        self._to_remote = _Direction(self._ways)
        self._to_local = _Direction([_way(entry.remote, entry.local) for entry in mappings])

    def to_remote(self, topic: str) -> str | None:
        """Return what the upstream calls a local topic; None: it has no place there."""
        return self._to_remote.name_of(topic)

    def to_local(self, topic: str) -> str | None:
        """Return what we call a topic of the upstream; None: it has no place here."""
        return self._to_local.name_of(topic)

    def message_to_remote(self, message: M) -> M | None:
        """Return a message as the upstream gets it; None: its topic has no place there.

        A response topic without a place is left out: whoever answered there would answer somebody else, or nobody.
        """
        return _renamed(message, self._to_remote.name_of)

    def message_to_local(self, message: M) -> M | None:
        """Return a message of the upstream as devices get it; as `message_to_remote`, the other way round."""
        return _renamed(message, self._to_local.name_of)

    def filters_to_remote(self, topic_filter: str) -> tuple[str, ...]:
        """Return the filters to subscribe to at the upstream, so that all comes that a local filter wants.

        None covers another; those of entries stand before the filter itself, which is there for topics that no entry
        covers. That one may bring more than was wanted: hold what comes against the local filter again. Empty: nothing
        at this upstream can match.
        """
        group, plain = split_shared(topic_filter)
        if not self._ways:
            return (topic_filter,)
        found = [name for way in self._ways if (name := way.filter_of(plain)) is not None]
        if not any(covers(way.source, plain) or covers(way.target, plain) for way in self._ways):
            found.append(plain)
        needed = [name for name in found if not any(covers(other, name) for other in found if other is not name)]
        return tuple(needed if group is None else [f"{SHARE}{group}/{name}" for name in needed])


NO_MAP: Final = TopicMap()  # every topic has the same name on both sides; `is NO_MAP` saves the look at each message


def topic_map(settings: UpstreamSettings) -> TopicMap:
    """Return what this upstream calls its topics."""
    return TopicMap(settings.topics) if settings.topics else NO_MAP


def _way(source: str, target: str) -> _Way:
    levels = source.split("/")
    goal = target.split("/")
    has_rest = levels[-1] == "#"
    if has_rest:
        del levels[-1], goal[-1]
    template = tuple(levels.index(level) if is_capture(level) else level for level in goal)
    fixed = tuple("+" if is_capture(level) else level for level in levels)
    return _Way(as_filter(source), as_filter(target), fixed, has_rest, template)


def _renamed(message: M, name_of: Callable[[str], str | None]) -> M | None:
    topic = name_of(message.topic)
    if topic is None:
        return None
    properties = message.properties
    if properties is not NO_PROPERTIES and (response := properties.response_topic) is not None:
        renamed = name_of(response)
        if renamed != response:
            properties = replace(properties, response_topic=renamed)
    if topic == message.topic and properties is message.properties:
        return message
    return replace(message, topic=topic, properties=properties)
