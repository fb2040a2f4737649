"""What a level of overload means for devices: who is not accepted, what is dropped, who is not read."""

from collections.abc import Callable, Sequence
from typing import Final

import trio

from mqttproxy.limiting.overload import Level, State, heaviest
from mqttproxy.mqtt.packets import Publish
from mqttproxy.telemetry.limited import LimitingMetrics
from mqttproxy.telemetry.logs import RateLimited
from mqttproxy.telemetry.metrics import Metrics

AT_ONCE: Final = 200  # publishers that are read again before others have their turn


class Shedding:
    """See the module. One for the process; while nothing is shed it costs a look at `is_on` for each read."""

    def __init__(self, metrics: Metrics, limited: LimitingMetrics, alerts: RateLimited) -> None:
        self.state = State()
        self.is_on = False  # messages are concerned, or whose they are must be known soon
        self.calmer: Callable[[], object] = lambda: None  # the door's: new connections may be accepted again
        self._metrics: Final = metrics
        self._limited: Final = limited
        self._alerts: Final = alerts
        self._taken: dict[str, int] = {}  # payload bytes of each publisher since the last look
        self._heaviest: frozenset[str] = frozenset()
        self._waiting: Final = trio.lowlevel.ParkingLot()

    @property
    def level(self) -> Level:
        """What is shed."""
        return self.state.level

    @property
    def closes_door(self) -> bool:
        """Whether no new connections are accepted."""
        return self.state.level >= Level.CONNECTIONS

    async def use(self, state: State) -> None:
        """Shed by this level from now on. Who is read again is, a few at a time."""
        before, self.state = self.state, state
        self.is_on = state.level >= Level.QOS_0
        if state.level < Level.HEAVIEST:
            self._heaviest = frozenset()
        elif before.level < Level.HEAVIEST:
            self._heaviest = heaviest(self._taken)
        self._taken = {}
        self._limited.overload_level = state.level
        if state.level >= before.level:
            return
        if not self.closes_door:
            self.calmer()
        for _ in range(0, len(self._waiting), AT_ONCE):
            self._waiting.unpark(count=AT_ONCE)
            await trio.lowlevel.checkpoint()

    def concerns(self, client_id: str, publishes: Sequence[Publish]) -> bool:
        """Note what a device sent, and return whether something of it is shed, or its reads are. Only while `is_on`."""
        sizes = sum(len(publish.payload) + len(publish.topic) for publish in publishes)
        self._taken[client_id] = self._taken.get(client_id, 0) + sizes
        return self.holds(client_id) or not all(publish.qos for publish in publishes)

    def keep(self, publishes: list[Publish]) -> list[Publish]:
        """Return what of it is carried. The rest is dropped, counted and told."""
        kept = [publish for publish in publishes if publish.qos]
        if dropped := len(publishes) - len(kept):
            self._metrics.received_by_qos[0] += dropped
            self._metrics.dropped.add("overload", dropped)
            self._alerts.warning("overload", "overload_drops", messages=dropped, reason=self.state.reason)
        return kept

    def holds(self, client_id: str) -> bool:
        """Return whether a publisher is not read."""
        if self.state.level < Level.HEAVIEST:
            return False
        return self.state.level >= Level.PUBLISHERS or client_id in self._heaviest

    async def wait(self, client_id: str) -> None:
        """Wait until a publisher is read again."""
        self._limited.overload_waiting += 1
        try:
            while self.holds(client_id):
                await self._waiting.park()
        finally:
            self._limited.overload_waiting -= 1
