"""How much is shed, from what the process measures of itself. Computes only: `measuring` measures, others shed.

What is shed comes in one order, a step at each look while something is over its bound. It falls by a step after
`CALM_LOOKS` looks at which everything was well below. Never shed: what is acknowledged, authentication, access, checks.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final

from attrs import frozen

from mqttproxy.config.limiting import OverloadSettings
from mqttproxy.config.units import write_duration, write_size

CALM: Final = 0.8  # of a bound: below it nothing keeps the level up
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

    loop_delay: float | None = None  # seconds by which a timer came late
    memory: float | None = None  # share of what the process may have
    descriptors: float | None = None  # the same
    disk_free: int | None = None  # bytes
    commit: float | None = None  # seconds that a commit takes


@frozen
class Pressure:
    """One measure against its bound, which is 1. `highest`: shedding more than that would not help it."""

    value: float
    highest: Level
    words: str


@frozen
class State:
    """What is shed, why, and at how many looks in a row all was calm."""

    level: Level = Level.NOTHING
    reason: str = ""
    calm: int = 0


def pressures(measures: Measures, bounds: OverloadSettings) -> Mapping[str, Pressure]:
    """Return what weighs how heavily, by the name of its setting."""
    found: dict[str, Pressure] = {}

    def add(name: str, value: float | None, words: str, highest: Level = Level.PUBLISHERS) -> None:
        if value is not None:
            found[name] = Pressure(value, highest, words)

    delay, commit, free = measures.loop_delay, measures.commit, measures.disk_free
    memory, descriptors = measures.memory, measures.descriptors
    if delay is not None:
        add("loop_delay", delay / bounds.loop_delay, f"the loop is {write_duration(delay)} late")
    if memory is not None:
        add("memory", memory / bounds.memory, f"{memory:.0%} of the memory is in use")
    if descriptors is not None:
        words = f"{descriptors:.0%} of the file descriptors are in use"
        add("descriptors", descriptors / bounds.descriptors, words, Level.CONNECTIONS)
    if free is not None:
        add("disk_free", bounds.disk_free / max(free, 1), f"the disk has {write_size(free)} left")
    if commit is not None:
        add("commit", commit / bounds.commit, f"a commit takes {write_duration(commit)}")
    return found


def next_state(state: State, found: Mapping[str, Pressure]) -> State:
    """Return what is shed after one more look."""
    over = [one for one in found.values() if one.value >= 1 and one.highest > state.level]
    if over:
        worst = max(over, key=lambda one: one.value)
        return State(Level(state.level + 1), worst.words)
    keeping = [one for one in found.values() if one.value >= CALM and one.highest >= state.level]
    if keeping or not state.level:
        return State(state.level, max(keeping, key=lambda one: one.value).words if state.level else "")
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
