"""What waits for one device, bounded in messages and payload bytes."""

from collections import deque
from collections.abc import Sequence

from mqttproxy.mqtt.packets import Message


class DeviceQueue:
    """First in, first out. What does not fit is dropped: the newest, as the device waits for the oldest."""

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[Message] = deque()
        self.size = 0

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._waiting)

    def put(self, messages: Sequence[Message]) -> int:
        """Take what fits, in order; return how many were dropped."""
        for index, message in enumerate(messages):
            if len(self._waiting) >= self._max_messages or self.size + len(message.payload) > self._max_bytes:
                return len(messages) - index
            self._waiting.append(message)
            self.size += len(message.payload)
        return 0

    def take(self, quota: int, max_bytes: int) -> list[Message]:
        """Remove and return the oldest messages.

        Args:
            quota: how many of QoS 1 and 2 the device may be sent now; those of QoS 0 behind the last one wait with it,
                so that order is kept.
            max_bytes: stop after about this many payload bytes.

        """
        taken = []
        size = 0
        waiting = self._waiting
        while waiting and size < max_bytes:
            if waiting[0].qos:
                if quota <= 0:
                    break
                quota -= 1
            message = waiting.popleft()
            size += len(message.payload)
            taken.append(message)
        self.size -= size
        return taken
