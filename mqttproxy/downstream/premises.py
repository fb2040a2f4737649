"""What every device of the process shares."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, cast

import trio
from attrs import Factory, define, field

from mqttproxy.access.credentials import Allowed
from mqttproxy.access.gate import Gate
from mqttproxy.apart import IN_THREAD
from mqttproxy.config.model import AccessSettings, Labels, LimitSettings
from mqttproxy.downstream.absent import Absent
from mqttproxy.downstream.departed import Publisher
from mqttproxy.downstream.flapping import Flapping
from mqttproxy.downstream.homes import Homes, UpstreamLink
from mqttproxy.downstream.keepalive import KeepAliveWatch
from mqttproxy.downstream.shedding import Shedding
from mqttproxy.limiting.bans import Bans
from mqttproxy.limiting.rates import Rates
from mqttproxy.limiting.refused import RefusedClients
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.pipeline import Pipeline
from mqttproxy.sessions import Session, Sessions
from mqttproxy.sessions.wills import Wills
from mqttproxy.telemetry.limited import LimitingMetrics
from mqttproxy.telemetry.logs import Log, RateLimited
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.transport.revoked import Revoked
from mqttproxy.validation import Identity

if TYPE_CHECKING:
    from mqttproxy.downstream.device import Device


class ConnectedDevice(Protocol):
    """A device as the others see it."""

    gone: trio.Event
    identity: Identity
    admission: Allowed

    def disconnect(self, reason: ReasonCode, words: str = "") -> None:
        """End its connection."""

    def dismiss(self) -> None:
        """End its connection because the proxy ends."""

    def stop_reading(self) -> None:
        """Let it finish."""


@define(eq=False, kw_only=True)
class Premises:
    """The rooms and settings a device works with. `access` and `upstreams` change with a reload."""

    limits: LimitSettings
    access: AccessSettings
    pipeline: Pipeline
    upstreams: Mapping[str, UpstreamLink]
    sessions: Sessions
    wills: Wills
    publisher: Publisher  # of wills
    flapping: Flapping
    metrics: Metrics
    log: Log
    alerts: RateLimited
    new_client_id: Callable[[], str]
    sys_messages: Callable[[str], Iterator[Message]]  # what of `$SYS` a filter matches now
    labels: Mapping[str, Labels] = Factory(dict)  # attributes of all devices of a listener, by its name
    revoked: Mapping[str, Revoked] = Factory(dict)  # certificates of devices of a listener, by its name
    server_reference: str | None = None  # for devices that are sent away because the proxy ends
    keep_alive: KeepAliveWatch = Factory(KeepAliveWatch)
    devices: dict[str, ConnectedDevice] = Factory(dict)  # by client identifier
    absent: dict[str, Absent] = Factory(dict)  # by client identifier: what devices that are away left unfinished
    is_closing: bool = False  # all devices are sent away, because the proxy ends
    nursery: trio.Nursery | None = None  # of the door: for what outlives a connection
    gate: Gate = Factory(lambda: Gate(time.time))
    homes: Homes = field(init=False)
    limited: LimitingMetrics = Factory(LimitingMetrics)
    rates: Rates = field(init=False)
    bans: Bans = field(init=False)
    shedding: Shedding = field(init=False)
    refused: RefusedClients = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Hear of sessions that are over, let in who may, and tell the numbers of limits."""
        self.homes = Homes(self.upstreams, self._homes_for_filter)
        self.rates = Rates(self.limits, self.limited)
        self.bans, self.refused = Bans(self.limits.bans), RefusedClients(self.limits.refused_clients)
        self.shedding = Shedding(self.metrics, self.limited, self.alerts)
        self.pipeline.behaving.limit(self.rates)
        self.metrics.more.append(self.limited)
        self.metrics.refresh.append(self._refresh)
        self.sessions.on_discard = self._session_over
        self.gate.use(self.pipeline.ruleset.chains, self.access)

    def _refresh(self) -> None:
        metrics, flapping = self.metrics, self.flapping
        metrics.flapping_banned, metrics.flapping_bans = flapping.banned, flapping.bans
        metrics.flapping_forgotten = flapping.forgotten
        self.limited.thread_waits = IN_THREAD.waits
        self.limited.rate_keys, self.limited.bans = self.rates.keys, len(self.bans)
        self.limited.refused_clients, self.limited.refused_forgotten = len(self.refused), self.refused.forgotten

    def _homes_for_filter(self, topic_filter: str) -> set[str]:
        return self.pipeline.ruleset.routes.homes_for_filter(topic_filter)

    def _session_over(self, session: Session, _filters: tuple[str, ...]) -> None:
        self.homes.leave_all(session.client_id)
        self.absent.pop(session.client_id, None)
        self.wills.end(session.client_id)

    def connected(self) -> "Iterator[Device]":
        """Go through the devices that are connected."""
        return (cast("Device", device) for device in [*self.devices.values()])  # nothing else is put there

    def rehome_soon(self) -> None:
        """Do `rehome` in the background, for there may be very many subscriptions."""
        if self.nursery is not None:
            self.nursery.start_soon(self.rehome)

    async def rehome(self) -> None:
        """Ask the upstreams for what all sessions are subscribed to: after `Sessions.restore`, and after a reload."""
        entries_of = self.pipeline.table.entries_of
        await self.homes.renew(
            list(self.sessions),
            lambda client_id: (entry.subscription for entry in entries_of(client_id)),
        )


def forget_frames(error: BaseException) -> None:
    """Let go of all that an error refers to: its connection keeps it, and so it would keep all that was read."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
