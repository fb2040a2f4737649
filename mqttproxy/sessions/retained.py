"""Retained messages of topics whose home is local, bounded in number and bytes."""

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import chain, islice
from math import inf
from typing import Final

import trio

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Timed
from mqttproxy.mqtt.topics import SHARE

# What a message costs beside its payload and topic, roughly, so that a million empty ones are not free.
OVERHEAD: Final = 200
SLICE: Final = 1000  # nodes that are looked at, or messages that expire, before others get their turn
# A level with more topics below it is listed once for all who go through it, as long as it stays as it is.
WIDE: Final = 1000
SPARE: Final = 1000  # times of messages replaced since that may lie about before they are swept out


class _Node:
    __slots__ = ("children", "listed", "message", "sender")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.listed: tuple[_Node, ...] | None = None
        self.message: Message | None = None
        self.sender = ""

    def snapshot(self) -> "tuple[_Node, ...]":
        """Return the children as they are now, for somebody who goes through them with long pauses."""
        if self.listed is not None:
            return self.listed
        listed = tuple(self.children.values()) if self.children else ()
        if len(listed) > WIDE:
            self.listed = listed
        return listed

    def child(self, level: str) -> "_Node":
        """Return a child, made if it was not there."""
        if self.children is None:
            self.children = {}
        child = self.children.get(level)
        if child is None:
            child = self.children[level] = _Node()
            self.listed = None
        return child


class RetainedStore:
    """The last retained message of each topic, in a tree of topic levels."""

    def __init__(
        self,
        *,
        max_messages: int,
        max_bytes: int,
        note: Callable[[str, Message | None, bool, str], None] = lambda _topic, _message, _is_new, _sender: None,
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        """Make an empty store.

        Args:
            max_messages: kept at most.
            max_bytes: of payloads, topics and properties, and something for each message.
            note: told each change: a topic, its message, or None when it has none any more, whether it had none, and
                the client identifier of the sender.
            now: the clock that tells whether a `Timed` message is over.

        """
        self._root = _Node()
        self._dollar_root = _Node()  # `$` topics apart: no wildcard reaches them from the first level [MQTT-4.7.2-1]
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._note = note
        self._now = now
        self._times: list[tuple[float, str]] = []  # a heap; also of messages that were replaced since
        self.count = 0
        self.size = 0

    def keep(self, message: Message, sender: str = "") -> bool:
        """Keep, replace, or with an empty payload clear. [MQTT-3.3.1-6].

        Args:
            message: its `retain` is set.
            sender: client identifier of who published it; empty: not known.

        Returns:
            False: it would break a bound.

        """
        if not message.payload:
            self._clear(message.topic)
            return True
        count = self.count
        message = _as_kept(message)
        if not self._put(message, sender):
            return False
        self._note(message.topic, message, self.count > count, sender)
        return True

    def restore(self, messages: Iterable[tuple[Message, str]]) -> int:
        """Put back what was kept before a restart, and who sent it.

        What does not fit any more is noted as cleared; returns how many.
        """
        dropped = 0
        for message, sender in messages:
            if not self._put(message, sender):
                self._note(message.topic, None, False, "")
                dropped += 1
        return dropped

    def sender_of(self, topic: str) -> str:
        """Return the client identifier of who published the retained message of a topic; empty: it is not known."""
        node = self._find(topic)
        return node.sender if node is not None else ""

    @property
    def next_expiry(self) -> float:
        """When to call `expire` again: not before anything is over. `inf`: nothing will be."""
        return self._times[0][0] if self._times else inf

    def expire(self, now: float, most: int = SLICE) -> int:
        """Remove messages that are over, a slice of them: call again while `next_expiry` is not after `now`.

        Args:
            now: monotonic seconds.
            most: messages that are looked at.

        Returns:
            How many were removed.

        """
        removed = 0
        for _ in range(most):
            if self.next_expiry > now:
                break
            _, topic = heappop(self._times)
            node = self._find(topic)
            if node is not None and isinstance(node.message, Timed) and node.message.expires_at <= now:
                self._clear(topic)
                removed += 1
        return removed

    def match(self, topic_filter: str) -> Iterator[Message]:
        """Yield the retained messages that a filter matches, those that are over left out.

        `$` topics only where the filter begins with `$`; for a shared subscription none. What is kept or cleared
        between two steps may or may not be among what comes.
        """
        return chain.from_iterable(self.slices(topic_filter))

    def slices(self, topic_filter: str, nodes: int = SLICE) -> Iterator[list[Message]]:
        """Yield the same in lists, and also an empty list now and then: each step takes about the same short time.

        Args:
            topic_filter: what was subscribed to.
            nodes: of the tree that are looked at for each list.

        """
        if topic_filter.startswith(SHARE):
            return
        walk = self._walk(topic_filter)
        while looked_at := list(islice(walk, nodes)):
            yield [message for message in looked_at if message is not None and not self._is_over(message)]

    def _is_over(self, message: Message) -> bool:
        return isinstance(message, Timed) and message.expires_at <= self._now()

    def _walk(self, topic_filter: str) -> Iterator[Message | None]:
        """Yield for each node that is looked at the message to send, if any."""
        levels = topic_filter.split("/")
        stack: list[tuple[Iterator[_Node], int]] = [(iter((self._root_of(topic_filter),)), 0)]
        while stack:
            nodes, depth = stack[-1]
            node = next(nodes, None)
            if node is None:
                stack.pop()
                continue
            level = levels[depth] if depth < len(levels) else ""
            is_end = depth == len(levels) or level == "#"  # `a/#` matches `a` too [MQTT-4.7.1-2]
            yield node.message if is_end else None
            if depth == len(levels) or node.children is None:
                continue
            if level == "#":
                stack.append((iter(node.snapshot()), depth))
            elif level == "+":
                stack.append((iter(node.snapshot()), depth + 1))
            elif (child := node.children.get(level)) is not None:
                stack.append((iter((child,)), depth + 1))

    def _put(self, message: Message, sender: str) -> bool:
        node = self._find(message.topic)
        old = node.message if node else None
        count = self.count + (old is None)
        size = self.size + _size(message, sender) - (_size(old, node.sender) if node and old else 0)
        if count > self._max_messages or size > self._max_bytes:
            return False
        if node is None:
            node = self._root_of(message.topic)
            for level in message.topic.split("/"):
                node = node.child(level)
        node.message, node.sender = message, sender
        self.count, self.size = count, size
        if isinstance(message, Timed) and message.expires_at < inf:
            self._remember(message)
        return True

    def _remember(self, message: Timed) -> None:
        heappush(self._times, (message.expires_at, message.topic))
        if len(self._times) > 2 * self.count + SPARE:
            kept = {topic: at for at, topic in self._times if self._expiry_of(topic) == at}
            self._times = [(at, topic) for topic, at in kept.items()]
            heapify(self._times)

    def _expiry_of(self, topic: str) -> float:
        node = self._find(topic)
        return node.message.expires_at if node is not None and isinstance(node.message, Timed) else inf

    def _root_of(self, topic: str) -> _Node:
        return self._dollar_root if topic[:1] == "$" else self._root

    def _find(self, topic: str) -> _Node | None:
        node: _Node | None = self._root_of(topic)
        for level in topic.split("/"):
            node = node.children.get(level) if node and node.children else None
        return node

    def _clear(self, topic: str) -> None:
        node = self._find(topic)
        if node is None or node.message is None:
            return
        self.count -= 1
        self.size -= _size(node.message, node.sender)
        node.message, node.sender = None, ""
        self._prune(topic)
        self._note(topic, None, False, "")

    def _prune(self, topic: str) -> None:
        """Remove the branches that are bare now, from the leaf on."""
        node = self._root_of(topic)
        path: list[tuple[_Node, str]] = []
        for level in topic.split("/"):
            path.append((node, level))
            node = node.child(level)
        for parent, level in reversed(path):
            below = parent.children
            if below is None or below[level].message is not None or below[level].children:
                break
            del below[level]
            parent.listed = None
            if not below:
                parent.children = None


def _size(message: Message, sender: str) -> int:
    size = OVERHEAD + len(message.topic) + len(message.payload) + len(sender)
    properties = message.properties
    if properties is not NO_PROPERTIES:
        size += len(properties.content_type or "") + len(properties.response_topic or "")
        size += len(properties.correlation_data or b"")
        size += sum(len(key) + len(value) for key, value in properties.user_properties)
    return size


def _as_kept(message: Message) -> Message:
    """Return the message as it is retained: without what belongs to the packet that brought it."""
    if isinstance(message, Timed) or (type(message) is Message and message.retain):
        return message
    return Message(message.topic, message.payload, message.qos, True, message.properties)
