"""What waits for one device, bounded in messages and payload bytes."""

from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from typing import Final

from mqttproxy.mqtt.expiry import aged
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Timed

# What a message costs beside its payload and texts, roughly, so that a million empty ones are not free.
OVERHEAD: Final = 200

_SHORT: Final = 32  # messages up to which a list is as quick as a deque, which takes 760 bytes for one

Item = tuple[Message, object]  # a message and its token


def weigh(message: Message) -> int:
    """Return what a message counts for in the bound over all queues; about the memory it takes."""
    weight = OVERHEAD + len(message.payload) + len(message.topic)
    properties = message.properties
    if properties is not NO_PROPERTIES:
        weight += len(properties.correlation_data or b"") + len(properties.content_type or "")
        weight += len(properties.response_topic or "")
        weight += sum(len(key) + len(value) for key, value in properties.user_properties)
    return weight


class DeviceQueue:
    """First in, first out. `size`: payload bytes. Empty it is very small: there are many that never hold anything."""

    __slots__ = ("_first_over", "_waiting", "size")

    def __init__(self) -> None:
        self._waiting: deque[Item] | list[Item] | None = None
        self._first_over = inf  # no message is over before
        self.size = 0

    def __len__(self) -> int:
        """Return how many messages wait."""
        return 0 if self._waiting is None else len(self._waiting)

    def __iter__(self) -> Iterator[Item]:
        """Go through what waits, the oldest first."""
        return iter(self._waiting or ())

    def append(self, message: Message, token: object) -> None:
        """Put a message at the end."""
        if self._waiting is None:
            self._waiting = []
        elif len(self._waiting) == _SHORT and isinstance(self._waiting, list):
            self._waiting = deque(self._waiting)
        self._waiting.append((message, token))
        self.size += len(message.payload)
        if isinstance(message, Timed) and message.expires_at < self._first_over:
            self._first_over = message.expires_at

    def popleft(self) -> Item:
        """Remove and return the oldest.

        Raises:
            IndexError: nothing waits.

        """
        if self._waiting is None:
            raise IndexError("nothing waits")
        waiting = self._waiting
        item = waiting.pop(0) if isinstance(waiting, list) else waiting.popleft()
        self.size -= len(item[0].payload)
        if not waiting:
            self._waiting = None
            self._first_over = inf
        return item

    def take(self, quota: int, max_bytes: int, now: float) -> tuple[list[Item], list[Item]]:
        """Remove the oldest messages, and return those to be sent, as they are to be sent now, and those that are over.

        Args:
            quota: how many of QoS 1 and 2 the device may be sent now; those of QoS 0 behind the last one wait with it,
                so that order is kept.
            max_bytes: stop after about this many payload bytes.
            now: monotonic seconds.

        """
        taken: list[Item] = []
        over: list[Item] = []
        size = 0
        while self._waiting and size < max_bytes:
            if self._waiting[0][0].qos and quota <= 0:
                break
            message, token = item = self.popleft()
            current = aged(message, now)
            if current is None:
                over.append(item)
                continue
            quota -= message.qos > 0
            size += len(message.payload)
            taken.append(item if current is message else (current, token))
        return taken, over

    def sweep(self, now: float) -> list[Item]:
        """Remove and return all that is over."""
        if now < self._first_over or self._waiting is None:
            return []
        return self.remove(lambda message: isinstance(message, Timed) and message.expires_at <= now)

    def remove(self, which: Callable[[Message], bool]) -> list[Item]:
        """Remove and return some, in order."""
        removed: list[Item] = []
        kept, self._waiting = self._waiting or (), None
        self.size, self._first_over = 0, inf
        for item in kept:
            if which(item[0]):
                removed.append(item)
            else:
                self.append(*item)
        return removed
