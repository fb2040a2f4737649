"""Messages of one batch that go the same way, where that is, and what of it has no place yet."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from attrs import Factory, define

from mqttproxy.handover import Item, Lane, Origin, Plan, SpoolLanes, make_plan
from mqttproxy.holding import Waiting
from mqttproxy.ruleset import Ruleset
from mqttproxy.spool import SpoolLane

CACHED_TOPICS: Final = 10_000


class Plans(dict[str, Plan]):
    """Where the messages of each topic go under one ruleset; whichever is asked for is there.

    `lanes` are those of the moment: upstreams come before the messages, and after the first ruleset.
    """

    def __init__(self, ruleset: Ruleset, lanes: Callable[[], Mapping[str, Lane]], spool_lanes: SpoolLanes) -> None:
        super().__init__()
        self._ruleset = ruleset
        self._lanes = lanes
        self._spool_lanes = spool_lanes
        self._distinct: dict[Plan, Plan] = {}  # one object for all topics that go the same way; as many as routes

    def __missing__(self, topic: str) -> Plan:
        """Work it out."""
        if len(self) >= CACHED_TOPICS:
            self.clear()
        drop_unrouted = self._ruleset.config.default.unrouted == "drop"
        plan = make_plan(topic, self._ruleset.routes, self._lanes(), self._spool_lanes, drop_unrouted=drop_unrouted)
        self[topic] = plan = self._distinct.setdefault(plan, plan)
        return plan


@define
class Backlog:
    """What had no place yet. The device waits for all of it at once and reads nothing meanwhile."""

    lanes: list[tuple[Lane | SpoolLane, Sequence[Item]]] = Factory(list)
    holds: list[Waiting] = Factory(list)


class Gathering(Origin, Protocol):
    """A device whose messages may wait for the end of a turn."""

    is_gathered: bool  # some of them do

    def hold_up(self, backlog: Backlog) -> None:
        """Read nothing more before the backlog is cleared."""


class Group:
    """Messages that go the same way, in the order in which they came, and whose they are."""

    __slots__ = ("items", "owners", "plan")

    def __init__(self, plan: Plan | None = None, owner: Origin | None = None) -> None:
        self.plan = plan
        self.items: list[Item] = []
        self.owners: list[tuple[int, Origin]] = [(0, owner)] if owner is not None else []  # from which item on

    def of_qos_0(self) -> "Group":
        """Return the same without what goes through the spool."""
        group = Group(self.plan)
        group.owners = []
        for origin, part in self.by_owner([item for item in self.items if item[1] is None]):
            group.owners.append((len(group.items), origin))
            group.items += part
        return group

    def by_owner(self, items: Sequence[Item]) -> Iterable[tuple[Origin, Sequence[Item]]]:
        """Yield each device with those of its messages that are among `items`, which are in order."""
        left = deque(items)
        ends = [start for start, _ in self.owners[1:]] + [len(self.items)]
        for (start, owner), end in zip(self.owners, ends, strict=True):
            part = []
            for item in self.items[start:end]:
                if left and left[0] is item:
                    part.append(left.popleft())  # noqa: PERF401 # what is taken changes what is compared next
            if part:
                yield owner, part
