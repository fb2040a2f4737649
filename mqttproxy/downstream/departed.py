"""Wills on their way: published through the pipeline like any message, for devices that are gone."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio
from attrs import Factory, define

from mqttproxy.groups import Backlog
from mqttproxy.handover import Ticket
from mqttproxy.mqtt.packets import Publish, Will
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.pipeline import Pipeline
from mqttproxy.sessions.wills import PendingWill, as_published, delay_of
from mqttproxy.telemetry.logs import get_log
from mqttproxy.validation import Identity

_LOG: Final = get_log(component="wills")

LATE_BATCHES: Final = 1000  # wills that may wait for a place at once; beyond it they are dropped, counted


def pending_will(identity: Identity, will: Will, expiry: float) -> PendingWill:
    """Return a will as `sessions.wills.Wills` takes it; `expiry` in seconds, of the session."""
    delay = delay_of(will, expiry)
    return PendingWill(
        identity.client_id,
        identity.username,
        identity.address,
        identity.listener,
        will,
        delay,
        attributes=identity.attributes,
        grants=identity.grants,
    )


@define(eq=False)
class Departed:
    """A device that is gone, as the pipeline sees it while its will is carried."""

    identity: Identity
    _over: Callable[[], None]
    pending: deque[Ticket] = Factory(deque)
    unacknowledged: int = 0

    def acknowledge(self, now: float) -> None:  # noqa: ARG002 # nobody is told
        """Let go of the will once it is where it belongs."""
        while self.pending and self.pending[0].done:
            self.unacknowledged -= self.pending.popleft().size
        if not self.pending:
            self._over()

    def promise(self, packet_id: int) -> None:
        """Do nothing: it has no session any more."""

    def disconnect(self, reason: ReasonCode, words: str) -> None:
        """Do nothing: it is gone."""


@define(eq=False)
class Publisher:
    """Publishes wills for `sessions.wills.Wills`, and tells it when nothing can lose them any more."""

    _pipeline: Pipeline
    settled: Callable[[PendingWill], None] = lambda _: None
    nursery: trio.Nursery | None = None  # for those that must wait for their place
    _late: int = 0

    @property
    def late(self) -> int:
        """How many wait for their place."""
        return self._late

    def fire(self, wills: Sequence[PendingWill]) -> None:
        """Publish them; never waits. One that we cannot is told and given up: it would end the next process as well."""
        for will in wills:
            try:
                self._publish(will)
            except Exception:  # noqa: BLE001 # our bug, and no device's task to tell it (promise P5)
                _LOG.exception("internal_error", client_id=will.client_id)
                self.settled(will)

    def _publish(self, will: PendingWill) -> None:
        identity = Identity(will.client_id, will.username, will.address, will.listener, will.attributes, will.grants)
        departed = Departed(identity, lambda: self.settled(will))
        publish = as_published(will.message)
        if self.nursery is not None and self._late < LATE_BATCHES and self._pipeline.asking.concerns((publish,)):
            self._late += 1
            self.nursery.start_soon(self._ask, departed, publish, will)
        else:
            self._carry(departed, publish, will)

    async def _ask(self, departed: Departed, publish: Publish, will: PendingWill) -> None:
        """Have plug-ins look at a will first."""
        try:
            while (ask := self._pipeline.asking.must_wait(departed, (publish,))) is not None:
                await ask()
        finally:
            self._late -= 1
        self._carry(departed, publish, will)

    def _carry(self, departed: Departed, publish: Publish, will: PendingWill) -> None:
        backlog = self._pipeline.carry_up(departed, (publish,), trio.current_time())
        if backlog is None:
            departed.acknowledge(0.0)
        elif self.nursery is not None and self._late < LATE_BATCHES:
            self._late += 1
            self.nursery.start_soon(self._clear, departed, backlog)
        else:
            self._pipeline.give_up(backlog)
            self.settled(will)

    async def _clear(self, departed: Departed, backlog: Backlog) -> None:
        try:
            await self._pipeline.clear(backlog)
        finally:
            self._late -= 1
        departed.acknowledge(0.0)
