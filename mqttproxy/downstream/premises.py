"""What every device of the process shares."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import trio
from attrs import Factory, define

from mqttproxy.config.model import AccessSettings, LimitSettings
from mqttproxy.downstream.keepalive import KeepAliveWatch
from mqttproxy.handover import Origin
from mqttproxy.mqtt.packets import Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.pipeline import Backlog, Pipeline
from mqttproxy.telemetry.logs import Log, RateLimited
from mqttproxy.telemetry.metrics import Metrics

LATE_BATCHES: Final = 1000  # wills that may wait for a place at once; beyond it they are dropped


class UpstreamLink(Protocol):
    """An upstream as the devices' subscriptions see it (`upstream.Upstream`)."""

    @property
    def is_live(self) -> bool:
        """A link is up."""

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Want a filter, once more."""

    def unsubscribe(self, topic_filter: str) -> None:
        """Want it once less."""

    async def wait_subscribed(self, topic_filter: str) -> ReasonCode:
        """Wait for the broker's answer."""


class ConnectedDevice(Protocol):
    """A device as the others see it."""

    gone: trio.Event

    def disconnect(self, reason: ReasonCode, words: str = "") -> None:
        """End its connection."""

    def dismiss(self) -> None:
        """End its connection because the proxy ends."""

    def stop_reading(self) -> None:
        """Let it finish."""

    def rehome(self) -> None:
        """Ask the upstreams again for what it is subscribed to."""


@define(eq=False, kw_only=True)
class Premises:
    """The rooms and settings a device works with. `access` and `upstreams` change with a reload."""

    limits: LimitSettings
    access: AccessSettings
    pipeline: Pipeline
    upstreams: Mapping[str, UpstreamLink]
    metrics: Metrics
    log: Log
    alerts: RateLimited
    new_client_id: Callable[[], str]
    server_reference: str | None = None  # for devices that are sent away because the proxy ends
    keep_alive: KeepAliveWatch = Factory(KeepAliveWatch)
    devices: dict[str, ConnectedDevice] = Factory(dict)  # by client identifier
    nursery: trio.Nursery | None = None  # of the door: for what outlives a connection
    _late: int = 0

    def publish_late(self, origin: Origin, publish: Publish) -> None:
        """Carry a message of a device that is gone: its will."""
        backlog = self.pipeline.carry_up(origin, (publish,), trio.current_time())
        if backlog is not None and self.nursery is not None and self._late < LATE_BATCHES:
            self._late += 1
            self.nursery.start_soon(self._clear, backlog)
        elif backlog is not None:
            self.pipeline.give_up(backlog)

    async def _clear(self, backlog: Backlog) -> None:
        try:
            await self.pipeline.clear(backlog)
        finally:
            self._late -= 1
