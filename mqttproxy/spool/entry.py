"""A spooled message on its way to destinations, and the destinations that a message has in common with others."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from msgspec import Struct

DROPPABLE: Final = 1 << 62  # in a mask


class Who(Protocol):
    """Who sent a message: an `Identity`, or a `Sender` that came back from disk."""

    @property
    def client_id(self) -> str:
        """Client identifier."""

    @property
    def username(self) -> str | None:
        """User name."""

    @property
    def address(self) -> str:
        """IP address."""

    @property
    def listener(self) -> str:
        """Name of the listener."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """What is known of it besides."""


class Share:
    """A set of destinations, and what of the messages for just these each of them still needs.

    Attributes:
        mask: a bit for each destination's number; and `DROPPABLE`, if the oldest may be dropped to make room.
        numbers: the same as numbers.
        messages, bytes: needed by each of them.
        purged: up to which message runs were removed.
        has_consumed: a destination has come further since.

    """

    __slots__ = ("bytes", "has_consumed", "mask", "messages", "numbers", "purged")

    def __init__(self, mask: int) -> None:
        self.mask = mask
        self.numbers = tuple(number for number in range(DROPPABLE.bit_length() - 1) if mask >> number & 1)
        self.messages = dict.fromkeys(self.numbers, 0)
        self.bytes = dict.fromkeys(self.numbers, 0)
        self.purged = 0
        self.has_consumed = True

    @property
    def may_drop(self) -> bool:
        """The oldest may be dropped to make room."""
        return bool(self.mask & DROPPABLE)

    @property
    def size(self) -> int:
        """Payload bytes on disk: what the slowest needs. All go through the same messages in the same order."""
        return max(self.bytes.values())

    @property
    def count(self) -> int:
        """The same in messages."""
        return max(self.messages.values())

    def add(self, messages: int, size: int) -> None:
        """Count messages for all of them."""
        for number in self.numbers:
            self.messages[number] += messages
            self.bytes[number] += size

    def take(self, number: int, messages: int, size: int) -> None:
        """Count messages that one of them needs no more."""
        self.messages[number] -= messages
        self.bytes[number] -= size
        self.has_consumed = True

    def clear(self, number: int) -> None:
        """Count nothing any more that one of them needs."""
        if number in self.messages:
            self.take(number, self.messages[number], self.bytes[number])


class Entry(Struct, eq=False, gc=False):
    """The token of a spooled message, the same for each of its destinations. Nothing that it refers to refers to it.

    Attributes:
        number: of the message. They rise; with `epoch` they tell it from all others of this node.
        size: payload bytes.
        share: its destinations.
        who: sent it.
        ticket: to be settled when a destination has acknowledged; None: the device was acknowledged before.
        epoch: of the process that took it.

    """

    number: int
    size: int
    share: Share
    who: Who
    ticket: Any
    epoch: int
