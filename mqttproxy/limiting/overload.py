"""How much is shed, from what the process measures of itself. Computes only: `measuring` measures, others shed.

What is shed comes in one order, a step at a time while something is over its bound. What can end the process (memory,
descriptors, a full disk) is answered by a step at each look; what only makes it slow (its loop, commits) must last,
before the first step and before each that follows, so that no burst and no pause sets it off. It falls by a step after
`CALM_LOOKS` looks at which everything was below. Never shed: what is acknowledged, authentication, access, checks.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from math import inf
from typing import Final

from attrs import Factory, frozen

from mqttproxy.config.limiting import OverloadSettings
from mqttproxy.config.units import write_duration, write_size

CALM: Final = 0.8  # of a bound: below it nothing keeps the level up
# The same for what does not come and go with the load: memory that is free is not always given back, and connections
# that are there stay. With a wide gap the door would stay shut although there is room.
CALM_STOCK: Final = 0.97
SMALL_DISK: Final = 20  # a share of one in so many is enough of a disk for which the bound is too much
CALM_LOOKS: Final = 3


class Level(IntEnum):
    """What is shed, each with all before it."""

    NOTHING = 0
    FEEDS = 1  # live feeds of pages
    CONNECTIONS = 2  # new ones wait with the kernel
    QOS_0 = 3  # messages of QoS 0 from devices are dropped
    HEAVIEST = 4  # the publishers that sent half of all are not read
    PUBLISHERS = 5  # no publisher is read

    @property
    def words(self) -> str:
        """What is shed, for people."""
        return _WORDS[self]


_WORDS: Final = {
    Level.NOTHING: "nothing",
    Level.FEEDS: "live feeds",
    Level.CONNECTIONS: "new connections",
    Level.QOS_0: "messages of QoS 0",
    Level.HEAVIEST: "the heaviest publishers' reads",
    Level.PUBLISHERS: "all publishers' reads",
}


@frozen(kw_only=True)
class Measures:
    """What was measured at one look. None: it could not be."""

    loop_delay: float | None = None  # seconds by which a timer came late through the process's own work
    memory: float | None = None  # share of what the process may have
    descriptors: float | None = None  # the same
    disk_free: int | None = None  # bytes
    disk_size: int | None = None  # bytes
    commit: float | None = None  # seconds that a commit takes


@frozen
class Pressure:
    """One measure against its bound, which is 1.

    Attributes:
        value: what was measured, as a share of the bound.
        highest: shedding more than that would not help it.
        words: what is told.
        calm: below it nothing is shed for it any more.
        must_last: being over the bound for a moment means nothing.

    """

    value: float
    highest: Level
    words: str
    calm: float = CALM
    must_last: bool = False


@frozen
class State:
    """What is shed, why, at how many looks in a row all was calm, and since when what must last is over its bound."""

    level: Level = Level.NOTHING
    reason: str = ""
    calm: int = 0
    since: Mapping[str, float] = Factory(dict)


def pressures(measures: Measures, bounds: OverloadSettings) -> Mapping[str, Pressure]:
    """Return what weighs how heavily, by the name of its setting."""
    found: dict[str, Pressure] = {}

    everything = Level.PUBLISHERS
    delay, commit, free = measures.loop_delay, measures.commit, measures.disk_free
    memory, descriptors = measures.memory, measures.descriptors
    if delay is not None:
        words = f"the loop is {write_duration(round(delay, 3))} late"
        found["loop_delay"] = Pressure(delay / bounds.loop_delay, everything, words, must_last=True)
    if memory is not None:
        words = f"{memory:.0%} of the memory is in use"
        found["memory"] = Pressure(memory / bounds.memory, everything, words, CALM_STOCK)
    if descriptors is not None:
        words = f"{descriptors:.0%} of the file descriptors are in use"
        found["descriptors"] = Pressure(descriptors / bounds.descriptors, Level.CONNECTIONS, words, CALM_STOCK)
    if free is not None:
        wanted = (
            bounds.disk_free if measures.disk_size is None else min(bounds.disk_free, measures.disk_size // SMALL_DISK)
        )
        found["disk_free"] = Pressure(wanted / max(free, 1), everything, f"the disk has {write_size(free)} left")
    if commit is not None:
        words = f"a commit takes {write_duration(round(commit, 3))}"
        found["commit"] = Pressure(commit / bounds.commit, everything, words, must_last=True)
    return found


def next_state(state: State, found: Mapping[str, Pressure], now: float, sustained: float) -> State:
    """Return what is shed after one more look.

    Args:
        state: after the last one.
        found: at this one.
        now: monotonic seconds.
        sustained: for how many seconds what must last is to be over its bound.

    """
    since = {
        name: state.since.get(name, now)
        for name, one in found.items()
        if one.must_last and one.value >= (one.calm if name in state.since else 1)
    }
    over = [
        one
        for name, one in found.items()
        if one.value >= 1 and one.highest > state.level and now - since.get(name, -inf) >= sustained
    ]
    if over:
        worst = max(over, key=lambda one: one.value)
        return State(Level(state.level + 1), worst.words, since=dict.fromkeys(since, now))  # it has its time to help
    keeping = [one for one in found.values() if one.value >= one.calm and one.highest >= state.level]
    if keeping or not state.level:
        words = max(keeping, key=lambda one: one.value).words if state.level else ""
        return State(state.level, words, since=since)
    if state.calm + 1 < CALM_LOOKS:
        return State(state.level, state.reason, state.calm + 1)
    level = Level(state.level - 1)
    return State(level, state.reason if level else "")


def heaviest(taken: Mapping[str, int]) -> frozenset[str]:
    """Return the fewest that together sent at least half of all."""
    left, found = sum(taken.values()) / 2, set()
    by_weight: Sequence[tuple[str, int]] = sorted(taken.items(), key=lambda item: item[1], reverse=True)
    for name, size in by_weight:
        if left <= 0:
            break
        found.add(name)
        left -= size
    return frozenset(found)
