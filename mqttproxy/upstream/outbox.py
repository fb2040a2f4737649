"""What waits for one link: a queue of messages with exact bounds.

What was sent and is not yet acknowledged is not here: the link's session holds that, under bounds of its own.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from mqttproxy.mqtt.expiry import aged
from mqttproxy.mqtt.packets import Message
from mqttproxy.upstream.bell import Bell

TURN_MESSAGES: Final = 2000  # taken at once, so that no link holds the loop
Item = tuple[Message, object]  # a message and the caller's token for it, None: nobody wants to hear of it


class Outbox:
    """Messages in the order in which they were offered.

    Args:
        messages: most messages that may wait.
        payload_bytes: most payload bytes that may wait. An empty outbox takes one message of any size, or a message
            larger than this bound would never go anywhere.
        bell: rung when something was put in.

    """

    def __init__(self, *, messages: int, payload_bytes: int, bell: Bell) -> None:
        self._most_messages = messages
        self._most_bytes = payload_bytes
        self.bell = bell
        self._items: deque[Item] = deque()
        self._put_back = 0  # of the first, how many were here before
        self._full = False  # the last offer was not taken whole, and nothing left since
        self._room = trio.lowlevel.ParkingLot()
        self.queued_bytes = 0

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._items)

    def set_bounds(self, *, messages: int, payload_bytes: int) -> None:
        """Change the bounds. What is above new, smaller ones stays and is carried."""
        self._most_messages = messages
        self._most_bytes = payload_bytes
        self._room_was_made(messages)

    def offer(self, items: Sequence[Item]) -> int:
        """Take the longest prefix that fits and return how many that is."""
        size = 0
        for item in items:
            size += len(item[0].payload)
        if len(self._items) + len(items) <= self._most_messages and self.queued_bytes + size <= self._most_bytes:
            self._items.extend(items)
            self.queued_bytes += size
            self.bell.ring()
            return len(items)
        taken = self._offer_some(items)
        self._full = taken < len(items)
        if taken:
            self.bell.ring()
        return taken

    def _offer_some(self, items: Sequence[Item]) -> int:
        taken = 0
        for item in items:
            size = len(item[0].payload)
            if self._items and (len(self._items) >= self._most_messages or self.queued_bytes + size > self._most_bytes):
                break
            self._items.append(item)
            self.queued_bytes += size
            taken += 1
        return taken

    def put_back(self, items: Sequence[Item], *, behind_others: bool) -> None:
        """Put back at the head what was taken, whatever the bounds: it was taken under them.

        Args:
            items: in the order in which they were taken.
            behind_others: behind those that were put back before and not taken again, rather than ahead of them.

        """
        if not behind_others:
            self._put_back = 0
        first = [self._items.popleft() for _ in range(self._put_back)]
        self._items.extendleft(reversed([*first, *items]))
        self._put_back += len(items)
        self.queued_bytes += sum([len(item[0].payload) for item in items])
        self.bell.ring()

    def force(self, items: Sequence[Item], may_drop: Callable[[Item], bool]) -> list[Item]:
        """Put all in and return what had to go for it: the oldest that may be dropped; of too many new ones, those.

        What may not be dropped stays, and keeps its place.
        """
        queue = self._items
        queue.extend(items)
        self.queued_bytes += sum([len(item[0].payload) for item in items])
        gone: list[Item] = []
        kept: list[Item] = []
        put_back = self._put_back
        while len(queue) + len(kept) > 1 and queue and self._is_over(len(queue) + len(kept)):
            item = queue.popleft()
            if may_drop(item):
                self.queued_bytes -= len(item[0].payload)
                self._put_back -= len(gone) + len(kept) < put_back
                gone.append(item)
            else:
                kept.append(item)
        queue.extendleft(reversed(kept))
        self.bell.ring()
        return gone

    def _is_over(self, messages: int) -> bool:
        return messages > self._most_messages or self.queued_bytes > self._most_bytes

    def take(self, *, quota: int, payload_bytes: int) -> list[Item]:
        """Take from the front: at most `quota` messages of QoS 1 and 2.

        The message that reaches or passes `payload_bytes` is the last one. A message of QoS 0 overtakes none that waits
        for quota: order is kept over all of them.
        """
        queue = self._items
        if len(queue) <= quota and len(queue) <= TURN_MESSAGES and self.queued_bytes <= payload_bytes:
            items = list(queue)
            queue.clear()
            self.queued_bytes = 0
        else:
            items = self._take_some(quota, payload_bytes)
        if items:
            self._put_back = max(0, self._put_back - len(items))
            self._room_was_made(len(items))
        return items

    def _take_some(self, quota: int, payload_bytes: int) -> list[Item]:
        queue = self._items
        items: list[Item] = []
        size = 0
        while queue and size < payload_bytes and len(items) < TURN_MESSAGES:
            message = queue[0][0]
            if message.qos:
                if quota <= 0:
                    break
                quota -= 1
            size += len(message.payload)
            items.append(queue.popleft())
        self.queued_bytes -= size
        return items

    @property
    def needs_quota(self) -> bool:
        """True if the first message is of QoS 1 or 2."""
        return bool(self._items) and self._items[0][0].qos > 0

    def take_all(self) -> list[Item]:
        """Empty the outbox."""
        items = list(self._items)
        self._items.clear()
        self.queued_bytes = self._put_back = 0
        self._room_was_made(len(items))
        return items

    async def wait_room(self) -> None:
        """Wait until an offer that was not taken whole is worth repeating."""
        await trio.lowlevel.checkpoint()
        while self._full:
            await self._room.park()

    def wake_all(self) -> None:
        """Let everybody who waits for room look again."""
        self._full = False
        self._room.unpark_all()

    def _room_was_made(self, messages: int) -> None:
        self._full = False
        # Not everybody, or a thousand devices wake for each acknowledgement. Whoever is woken in vain or cancelled
        # leaves its room to the others: at the latest they are woken when the outbox is empty.
        if not self._room:
            return
        if self._items:
            self._room.unpark(count=messages)
        else:
            self._room.unpark_all()


def still_alive(items: Sequence[Item], now: float) -> tuple[list[Item], list[object]]:
    """Return items with what is left of their time, and the tokens of those that are over. `now`: monotonic seconds."""
    alive: list[Item] = []
    over: list[object] = []
    for message, token in items:
        left = aged(message, now)
        if left is None:
            over.append(token)
        else:
            alive.append((left, token))
    return alive, over
