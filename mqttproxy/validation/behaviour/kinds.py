"""Each kind of rule: what it remembers of a device, and what it finds wrong with a message."""

import struct
from array import array
from collections import OrderedDict
from hashlib import blake2b
from typing import Final, Protocol

import orjson
from attrs import define, field, frozen

from mqttproxy.config.units import write_duration, write_size
from mqttproxy.validation.behaviour.memory import Bound, Memory
from mqttproxy.validation.behaviour.places import MissingError, Place
from mqttproxy.validation.checks import Case
from mqttproxy.validation.verdict import Failure

PARTS: Final = 8  # of a window: a message of a quota counts for at least the window, and at most an eighth longer
RECENT: Final = 8  # different payloads or values that a rule about duplicates remembers of each topic of a device

_ENTRY: Final = struct.Struct("<8sd")  # of them: a digest, and when it came


@define(eq=False)
class Seen:
    """A message that a rule is asked about."""

    case: Case
    device: str
    now: float  # monotonic seconds
    wall: float  # seconds since 1970
    again: bool  # the device says it may have sent it before: it was never acknowledged

    def key(self) -> bytes:
        """Return what stands for this topic of this device, short however long both are."""
        return blake2b(f"{self.device}\0{self.case.message.topic}".encode(), digest_size=16).digest()


class Kind(Protocol):
    """One rule, with what it remembers."""

    def __len__(self) -> int:
        """Return how many states it remembers."""

    def failure(self, seen: Seen) -> Failure | None:
        """Return what is wrong with a message, None: nothing; and remember it."""


@define(eq=False)
class Quota:
    """At most so much in any window. What it refuses does not count.

    The window is cut into `PARTS`, and what was let through is counted for each: the last of them is forgotten once
    all of it is older than the window. So there is never more than the quota in any window, wherever it begins.
    """

    most: int
    window: float
    counts_bytes: bool
    _memory: Memory["array[int]"]

    def __len__(self) -> int:
        """Return how many devices it remembers."""
        return len(self._memory)

    def failure(self, seen: Seen) -> Failure | None:
        """Tell whether the quota is used up."""
        size = len(seen.case.message.payload) if self.counts_bytes else 1
        counts = self._memory.get(seen.device)  # one for each part, the newest first; then the number of that part
        part = int(seen.now * PARTS / self.window)
        if counts is None:
            counts = array("q", [0] * (PARTS + 1) + [part])
        self._memory.put(seen.device, counts)
        if (gone := part - counts[-1]) > 0:
            kept = [0] * min(gone, PARTS + 1) + list(counts[: max(PARTS + 1 - gone, 0)])
            counts[:] = array("q", [*kept, part])
        if sum(counts[:-1]) + size > self.most:
            most = write_size(self.most) if self.counts_bytes else f"{self.most} messages"
            return Failure("", "quota", f"more than {most} in {write_duration(self.window)}")
        counts[0] += size
        return None


@define(eq=False)
class Duplicates:
    """Nothing comes twice on a topic within a window, counted from the message that was let through.

    A message that the device sends again because it was not acknowledged is none: it may have been lost here.
    """

    window: float
    place: Place | None  # of the value that is compared; None: the whole payload
    _memory: Memory[bytes]

    def __len__(self) -> int:
        """Return how many topics of devices it remembers."""
        return len(self._memory)

    def failure(self, seen: Seen) -> Failure | None:
        """Tell whether it was there before."""
        content = seen.case.message.payload
        if self.place is not None:
            try:
                content = orjson.dumps(self.place.value(seen.case), option=orjson.OPT_SORT_KEYS)
            except MissingError as error:
                return Failure(self.place.shown, "duplicate", f"the value to compare {error}")
        digest, key = blake2b(content, digest_size=8).digest(), seen.key()
        oldest = seen.now - self.window
        recent = [one for one in _ENTRY.iter_unpack(self._memory.get(key) or b"") if one[1] > oldest]
        before = next((at for known, at in recent if known == digest), None)
        if before is None:
            recent = [*recent[1 - RECENT :], (digest, seen.now)]
        self._memory.put(key, b"".join(_ENTRY.pack(*one) for one in recent))
        if before is None or seen.again:
            return None
        what, pointer = ("value", self.place.shown) if self.place is not None else ("payload", "")
        ago = write_duration(round(seen.now - before, 1))
        return Failure(pointer, "duplicate", f"the same {what} as {ago} before, within {write_duration(self.window)}")


@define(eq=False)
class Sequence:
    """A number rises by 1 on each topic of a device. Whatever it is, the next one is expected after it."""

    place: Place
    wrap: int | None
    _memory: Memory[int]

    def __len__(self) -> int:
        """Return how many topics of devices it remembers."""
        return len(self._memory)

    def failure(self, seen: Seen) -> Failure | None:
        """Tell gaps, repetitions and steps back."""
        try:
            number = self.place.integer(seen.case)
        except MissingError as error:
            return self._failure(f"the sequence number {error}")
        if self.wrap is not None and not 0 <= number < self.wrap:
            return self._failure(f"the sequence number is {number}, not one of 0 to {self.wrap - 1}")
        key = seen.key()
        last = self._memory.get(key)
        if last is not None and seen.again and self._is_behind(number, last):
            return None  # sent again, because it was not acknowledged: it is no news
        self._memory.put(key, number)
        words = None if last is None else self._wrong(number, last)
        return None if words is None else self._failure(words)

    def _wrong(self, number: int, last: int) -> str | None:
        missing = number - last - 1 if self.wrap is None else (number - last - 1) % self.wrap
        if not missing:
            return None
        if number == last:
            return f"the sequence number {number} came twice"
        if self._is_behind(number, last):
            return f"the sequence number went back from {last} to {number}"
        return f"the sequence number went from {last} to {number}: {missing} missing"

    def _is_behind(self, number: int, last: int) -> bool:
        """Tell whether a number is not after the last: where they wrap, the nearer way round is meant."""
        return number <= last if self.wrap is None else (number - last) % self.wrap > self.wrap // 2 or number == last

    def _failure(self, words: str) -> Failure:
        return Failure(self.place.shown, "sequence", words)


@define(eq=False)
class Skew:
    """A time is that of our clock, but for so much. Remembers nothing."""

    place: Place
    written: str
    most: float

    def __len__(self) -> int:
        """Return how many states it remembers."""
        return 0

    def failure(self, seen: Seen) -> Failure | None:
        """Tell how far the time is off."""
        try:
            ahead = self.place.time(seen.case, self.written) - seen.wall
        except MissingError as error:
            return Failure(self.place.shown, "skew", f"the time {error}")
        if abs(ahead) <= self.most:
            return None
        words = f"{abs(ahead):.3g}s {'ahead of' if ahead > 0 else 'behind'} our clock"
        return Failure(self.place.shown, "skew", f"the time is {words}, where {write_duration(self.most)} is the most")


@frozen
class Silence:
    """News: a device that should be heard of has fallen silent, or speaks again."""

    rule: str
    device: str
    seconds: float  # since it was last heard of
    began: bool  # False: it is over


@define(eq=False)
class Silences:
    """Whoever was heard of once must be heard of again in time. A silence is told when it begins and when it ends."""

    name: str
    every: float
    bound: Bound
    # When each was last heard of; in this order, which is also that in which they are due.
    _heard: OrderedDict[str, float] = field(init=False, factory=OrderedDict)
    _silent: OrderedDict[str, float] = field(init=False, factory=OrderedDict)

    def __len__(self) -> int:
        """Return how many devices it remembers."""
        return len(self._heard) + len(self._silent)

    @property
    def silent(self) -> int:
        """Return how many of them are silent."""
        return len(self._silent)

    def heard(self, device: str, now: float) -> Silence | None:
        """Hear of a device. Returns that its silence is over, if it was told to have begun."""
        since = self._silent.pop(device, None)
        self._heard[device] = now
        self._heard.move_to_end(device)
        if len(self) > self.bound.most:
            (self._silent or self._heard).popitem(last=False)
            self.bound.forgotten += 1
        return None if since is None else Silence(self.name, device, now - since, began=False)

    def fallen_silent(self, now: float) -> Silence | None:
        """Return the next device whose silence begins, None: there is none now."""
        last = next(iter(self._heard.values()), None)
        if last is None or now - last <= self.every:
            return None
        device, last = self._heard.popitem(last=False)
        self._silent[device] = last
        return Silence(self.name, device, now - last, began=True)
