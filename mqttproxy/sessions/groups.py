"""Shared subscriptions: `$share/group/filter` makes its client a member of the group that this very filter names.

A message goes to one member of each group that matches: a connected one if there is any. It is a `SharedMessage` from
then on, so that whoever queues it can tell which messages to hand back, by `by_group` and `redispatch`, when the
member leaves.
"""

from bisect import bisect_left
from collections.abc import Iterable
from zlib import crc32

from mqttproxy.mqtt.packets import Message
from mqttproxy.sessions.copies import Entry, SharedMessage, client_id_of


def by_group(messages: Iterable[Message]) -> dict[str, list[Message]]:
    """Return those messages that came by shared subscriptions, by their full filter and in order.

    What a session hands back by `SubscriptionTable.redispatch` when it leaves a group, or its device a session while
    others are there: the messages as `deliver` got them, that were not sent, and those of QoS 1 that were sent and not
    acknowledged. Not those of QoS 2 that were sent, ever: nobody else may get them. [MQTT-4.8.2-5]. Not those that the
    device has refused by a negative acknowledgement either. [MQTT-4.8.2-6].
    """
    groups: dict[str, list[Message]] = {}
    for message in messages:
        if isinstance(message, SharedMessage):
            groups.setdefault(message.shared_filter, []).append(message)
    return groups


class Group:
    """The members of one shared subscription, by client identifier: so a restart gives each sender the same member."""

    __slots__ = ("members", "shared_filter", "turn")

    def __init__(self, shared_filter: str) -> None:
        self.shared_filter = shared_filter
        self.members: list[Entry] = []
        self.turn = 0

    def put(self, entry: Entry) -> None:
        """Add a member, or replace it."""
        index, is_member = self._find(client_id_of(entry))
        self.members[index : index + is_member] = [entry]

    def remove(self, client_id: str) -> None:
        """Remove a member, if it is one."""
        index, is_member = self._find(client_id)
        del self.members[index : index + is_member]

    def _find(self, client_id: str) -> tuple[int, bool]:
        """Return where a member is or would be, and whether it is there."""
        index = bisect_left(self.members, client_id, key=client_id_of)
        return index, index < len(self.members) and client_id_of(self.members[index]) == client_id

    def by_hash(self, key: str) -> Entry:
        """Choose a connected member, always the same for a key while nobody comes or goes.

        The digits of the hash, to the base of their number, name one member after the other: so those who had a
        member that is away spread over all others, and everybody else keeps theirs.
        """
        count = len(self.members)
        number = rest = crc32(key.encode())
        while count > 1 and rest:
            entry = self.members[rest % count]
            if entry.subscriber.is_connected:
                return entry
            rest //= count
        return self.members[self._connected_from(number % count)]

    def by_turn(self) -> Entry:
        """Choose the next connected member."""
        index = self._connected_from(self.turn % len(self.members))
        self.turn = index + 1
        return self.members[index]

    def _connected_from(self, start: int) -> int:
        """Return the first connected member at or after `start`, going round; `start` itself if there is none."""
        count = len(self.members)
        for step in range(count):
            index = (start + step) % count
            if self.members[index].subscriber.is_connected:
                return index
        return start
