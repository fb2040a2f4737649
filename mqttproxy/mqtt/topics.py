"""Topic names and topic filters: what is one, which match, which overlap, and a tree of many filters.

Everything works level by level and without recursion or regular expressions: no filter and no topic, however odd, costs
more than its length (`BAD-INPUT` B5, B8).
"""

from collections.abc import Hashable
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct

from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.wire import unwanted_character

T = TypeVar("T", bound=Hashable)

SHARE: Final = "$share/"
FEW: Final = 8  # values under a filter that are searched one by one; more of them are hashed
_NOTHING: Final[dict[str, Any]] = {}
_NAME_INVALID: Final = ReasonCode.TOPIC_NAME_INVALID
_FILTER_INVALID: Final = ReasonCode.TOPIC_FILTER_INVALID


def check_topic_name(topic: str, *, max_bytes: int = 1024, max_levels: int = 128) -> None:
    """Check a topic name that a message may be published to.

    Raises:
        RemoteProtocolError: MALFORMED_PACKET for a character that no string may hold, else TOPIC_NAME_INVALID.

    """
    if (character := unwanted_character(topic)) is not None:
        raise RemoteProtocolError(f"the topic name holds {character!r}", ReasonCode.MALFORMED_PACKET)
    if not topic:
        raise RemoteProtocolError("the topic name is empty", _NAME_INVALID)
    if "+" in topic or "#" in topic:  # [MQTT-3.3.2-2]
        raise RemoteProtocolError("the topic name holds a wildcard", _NAME_INVALID)
    _check_size("topic name", topic, max_bytes, max_levels, _NAME_INVALID)


def check_topic_filter(topic_filter: str, *, max_bytes: int = 1024, max_levels: int = 128) -> None:
    """Check a topic filter, shared (`$share/group/filter`) or not.

    Raises:
        RemoteProtocolError: TOPIC_FILTER_INVALID, which is what SUBACK says.

    """
    if (character := unwanted_character(topic_filter)) is not None:
        raise RemoteProtocolError(f"the topic filter holds {character!r}", _FILTER_INVALID)
    _check_size("topic filter", topic_filter, max_bytes, max_levels, _FILTER_INVALID)
    group, plain = split_shared(topic_filter)
    if group is not None and (not group or "+" in group or "#" in group):  # [MQTT-4.8.2-1, -2]
        raise RemoteProtocolError("the share name is empty or holds a wildcard", _FILTER_INVALID)
    if not plain:  # [MQTT-4.7.3-1]
        raise RemoteProtocolError("the topic filter is empty", _FILTER_INVALID)
    levels = plain.split("/")
    for level in levels:
        if len(level) > 1 and ("+" in level or "#" in level):  # [MQTT-4.7.1-1, -2]
            raise RemoteProtocolError("a wildcard does not fill its level of the topic filter", _FILTER_INVALID)
    if "#" in levels[:-1]:  # [MQTT-4.7.1-1]
        raise RemoteProtocolError("'#' is not the last level of the topic filter", _FILTER_INVALID)


def _check_size(what: str, text: str, max_bytes: int, max_levels: int, reason: ReasonCode) -> None:
    if (size := len(text.encode())) > max_bytes:
        raise RemoteProtocolError(f"the {what} has {size} bytes, more than {max_bytes}", reason)
    if (levels := text.count("/") + 1) > max_levels:
        raise RemoteProtocolError(f"the {what} has {levels} levels, more than {max_levels}", reason)


def split_shared(topic_filter: str) -> tuple[str | None, str]:
    """Return (share name, filter) of a shared subscription, or (None, filter)."""
    if not topic_filter.startswith(SHARE):
        return None, topic_filter
    group, _, plain = topic_filter[len(SHARE) :].partition("/")
    return group, plain


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a valid, not shared topic filter matches a valid topic name."""
    if topic[:1] == "$" and topic_filter[:1] in ("+", "#"):  # [MQTT-4.7.2-1]
        return False
    wanted = topic_filter.split("/")
    levels = topic.split("/")
    if wanted[-1] == "#":
        del wanted[-1]
        if len(levels) < len(wanted):
            return False
    elif len(levels) != len(wanted):
        return False
    return all(want in ("+", level) for want, level in zip(wanted, levels, strict=False))


def overlaps(a: str, b: str) -> bool:
    """Tell whether there is a topic name that both valid, not shared filters match."""
    ours, theirs = a.split("/"), b.split("/")
    if _starts_apart(ours[0], theirs[0]) or _starts_apart(theirs[0], ours[0]):
        return False
    for mine, other in zip(ours, theirs, strict=False):
        if "#" in (mine, other):
            return True
        if mine != other and "+" not in (mine, other):
            return False
    # All levels in common agree. The longer one may only go on with '#', which also matches its parent level.
    longer, shorter = (ours, theirs) if len(ours) > len(theirs) else (theirs, ours)
    # For '+' and '/#' that parent would be the empty topic name, which there is not. [MQTT-4.7.3-1]
    return len(longer) == len(shorter) or (longer[len(shorter)] == "#" and longer != ["", "#"])


def _starts_apart(a: str, b: str) -> bool:
    """Tell whether a first level `a` is a wildcard and `b` a `$` level, which it does not match. [MQTT-4.7.2-1]."""
    return a in ("+", "#") and b[:1] == "$"


class _Node(Struct, Generic[T], gc=False, eq=False):
    """One level of some filters: the values of the filters that end here, and the levels below.

    Most nodes of a large tree are leaves with one value, so neither costs a dict before there is need of one. Nothing
    refers back up, so the garbage collector need not look through a million of them.
    """

    below: "dict[str, _Node[T]] | None" = None
    values: tuple[T, ...] | dict[T, None] = ()  # a dict once there are many: a popular filter loses some often


class FilterTree(Generic[T]):
    """Values under topic filters, found by topic name in time that depends on the topic, not on how many there are.

    Filters are valid and not shared. A value stands once under a filter, however often it is added.
    """

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._size = 0

    def __len__(self) -> int:
        """Return how many (filter, value) pairs there are."""
        return self._size

    def add(self, topic_filter: str, value: T) -> bool:
        """Add a value under a filter; False: it stood there already."""
        node = self._root
        for level in topic_filter.split("/"):
            if node.below is None:
                node.below = {}
            child = node.below.get(level)
            if child is None:
                child = node.below[level] = _Node()
            node = child
        values = node.values
        if value in values:
            return False
        if isinstance(values, dict):
            values[value] = None
        elif len(values) < FEW:
            node.values = (*values, value)
        else:
            node.values = dict.fromkeys((*values, value))
        self._size += 1
        return True

    def remove(self, topic_filter: str, value: T) -> bool:
        """Remove a value from a filter, and the branches that are bare after it; False: it did not stand there."""
        path: list[tuple[dict[str, _Node[T]], str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            below = node.below
            child = below.get(level) if below else None
            if below is None or child is None:
                return False
            path.append((below, level))
            node = child
        values = node.values
        if value not in values:
            return False
        if isinstance(values, dict):
            del values[value]
        else:
            node.values = tuple(other for other in values if other != value)
        self._size -= 1
        for below, level in reversed(path):
            child = below[level]
            if child.values or child.below:
                break
            del below[level]
        return True

    def match(self, topic: str) -> list[T]:
        """Return the values of all filters that match; a value that stands under several of them is there as often."""
        found: list[T] = []
        nodes = [self._root]
        wild = topic[:1] != "$"  # [MQTT-4.7.2-1] speaks of the first level only
        for level in topic.split("/"):
            below: list[_Node[T]] = []
            for node in nodes:
                children = node.below or _NOTHING
                if (child := children.get(level)) is not None:
                    below.append(child)
                if wild:
                    if (child := children.get("+")) is not None:
                        below.append(child)
                    if (child := children.get("#")) is not None:
                        found.extend(child.values)
            if not below:
                return found
            nodes = below
            wild = True
        for node in nodes:
            found.extend(node.values)
            if (child := (node.below or _NOTHING).get("#")) is not None:  # 'a/#' matches 'a' too
                found.extend(child.values)
        return found
