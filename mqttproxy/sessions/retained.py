"""Retained messages of topics whose home is local, bounded in number and bytes."""

from collections.abc import Iterator
from typing import Final

from mqttproxy.mqtt.packets import Message

# What a message costs beside its payload and topic, roughly, so that a million empty ones are not free.
OVERHEAD: Final = 200


class _Node:
    __slots__ = ("children", "message")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.message: Message | None = None


class RetainedStore:
    """The last retained message of each topic, in a tree of topic levels."""

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._root = _Node()
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self.count = 0
        self.size = 0

    def keep(self, message: Message) -> bool:
        """Keep, replace, or with an empty payload clear. [MQTT-3.3.1-6]. False: it would break a bound."""
        if not message.payload:
            self._clear(message.topic)
            return True
        node = self._find(message.topic)
        old = node.message if node else None
        count = self.count + (old is None)
        size = self.size + _size(message) - (_size(old) if old else 0)
        if count > self._max_messages or size > self._max_bytes:
            return False
        if node is None:
            node = self._root
            for level in message.topic.split("/"):
                node = node.children.setdefault(level, _Node())
        node.message = message
        self.count, self.size = count, size
        return True

    def match(self, topic_filter: str) -> Iterator[Message]:
        """Yield the retained messages that a filter matches; `$` topics only where the filter begins with `$`."""
        levels = topic_filter.split("/")
        stack: list[tuple[_Node, int]] = [(self._root, 0)]
        while stack:
            node, depth = stack.pop()
            if depth == len(levels):
                if node.message is not None:
                    yield node.message
                continue
            level = levels[depth]
            at_root = node is self._root
            if level == "#":
                if node.message is not None:  # `a/#` matches `a` too [MQTT-4.7.1-2]
                    yield node.message
                stack.extend(
                    (child, depth) for name, child in node.children.items() if not (at_root and name[:1] == "$")
                )
            elif level == "+":
                stack.extend(
                    (child, depth + 1) for name, child in node.children.items() if not (at_root and name[:1] == "$")
                )
            elif (child := node.children.get(level)) is not None:
                stack.append((child, depth + 1))

    def _find(self, topic: str) -> _Node | None:
        node: _Node | None = self._root
        for level in topic.split("/"):
            node = node.children.get(level) if node else None
        return node

    def _clear(self, topic: str) -> None:
        path = [self._root]
        levels = topic.split("/")
        for level in levels:
            child = path[-1].children.get(level)
            if child is None:
                return
            path.append(child)
        if path[-1].message is None:
            return
        self.count -= 1
        self.size -= _size(path[-1].message)
        path[-1].message = None
        while len(path) > 1 and not path[-1].children and path[-1].message is None:
            path.pop()
            del path[-1].children[levels[len(path) - 1]]


def _size(message: Message) -> int:
    return OVERHEAD + len(message.topic) + len(message.payload)
