"""All upstreams that are enabled, under one nursery; a reload adds, removes and changes them one by one."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NoReturn

import trio
from attrs import frozen

from mqttproxy.config.model import UpstreamSettings
from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.telemetry.logs import Log, get_log
from mqttproxy.transport.dial import dial as dial_broker
from mqttproxy.upstream.callbacks import Callbacks
from mqttproxy.upstream.connect import Dial, account_of
from mqttproxy.upstream.status import UpstreamStatus
from mqttproxy.upstream.supervisor import Upstream


@frozen
class Changes:
    """Names of what a reload did."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


class Pool(Mapping[str, Upstream]):
    """Upstreams by name, in the order of the file.

    Args:
        drain_grace: seconds in which an upstream that was removed may still carry what it holds; the rest is dropped.
        dial, chance, log: for tests.

    """

    def __init__(
        self,
        *,
        proxy_id: str,
        callbacks: Callbacks,
        drain_grace: float = 10.0,
        dial: Dial = dial_broker,
        chance: Callable[[], float] = random.random,
        log: Log | None = None,
    ) -> None:
        self._proxy_id = proxy_id
        self._drain_grace = drain_grace
        self._log = log or get_log()
        self._make = partial(Upstream, proxy_id=proxy_id, callbacks=callbacks, dial=dial, chance=chance, log=self._log)
        self._upstreams: dict[str, Upstream] = {}
        self._scopes: dict[Upstream, trio.CancelScope] = {}
        self._retired: dict[str, Upstream] = {}
        self._nursery: trio.Nursery | None = None

    def __getitem__(self, name: str) -> Upstream:
        """Return the upstream of this name."""
        return self._upstreams[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._upstreams)

    def __len__(self) -> int:
        """Return how many upstreams are enabled."""
        return len(self._upstreams)

    def apply(self, settings: Sequence[UpstreamSettings]) -> Changes:
        """Make the pool what these settings say; unchanged upstreams are not touched. Works before and under `run`.

        Raises:
            OSError: a password file cannot be read; then nothing was changed.

        """
        wanted = {one.name: one for one in settings if one.enabled}
        accounts = {name: account_of(one, self._proxy_id) for name, one in wanted.items()}
        added = {name: self._make(one) for name, one in wanted.items() if name not in self._upstreams}
        # From here on nothing fails.
        removed = [name for name in self._upstreams if name not in wanted]
        for name in removed:
            self._retire(self._upstreams.pop(name))
        changed = [name for name, upstream in self._upstreams.items() if upstream.change(wanted[name], accounts[name])]
        for upstream in added.values():
            self._start(upstream)
        everything = self._upstreams | added
        self._upstreams = {name: everything[name] for name in wanted}
        return Changes(tuple(added), tuple(removed), tuple(changed))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Keep all upstreams linked until cancelled. An error in one of them is a bug and ends the process."""
        try:
            async with trio.open_nursery() as self._nursery:
                for upstream in self._upstreams.values():
                    self._start(upstream)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def drain(self, deadline: float) -> bool:
        """Wait until no upstream holds a message, or the deadline on trio's clock; say which it was."""
        with trio.move_on_at(deadline):
            for upstream in self._upstreams.values():
                await upstream.drain(deadline)
        return not any(upstream.queued or upstream.in_flight for upstream in self._upstreams.values())

    def statuses(self) -> list[UpstreamStatus]:
        """Return a snapshot of each."""
        return [upstream.status() for upstream in self._upstreams.values()]

    def snapshots(self) -> list[DestinationSnapshot]:
        """Return the numbers of each, for metrics."""
        return [upstream.snapshot() for upstream in self._upstreams.values()]

    def _start(self, upstream: Upstream) -> None:
        if (former := self._retired.pop(upstream.name, None)) is not None:
            self._scopes[former].cancel()  # it uses the same client identifier: no grace for it
        if self._nursery is not None:
            self._scopes[upstream] = trio.CancelScope()
            self._nursery.start_soon(self._keep, upstream)

    async def _keep(self, upstream: Upstream) -> None:
        try:
            with self._scopes[upstream]:
                await upstream.run()
        finally:
            del self._scopes[upstream]
        # Only its own scope ends it here: it was removed.
        if self._retired.get(upstream.name) is upstream:
            del self._retired[upstream.name]
        upstream.abandon()

    def _retire(self, upstream: Upstream) -> None:
        upstream.retire()
        if self._nursery is None:
            upstream.abandon()
            return
        self._retired[upstream.name] = upstream
        self._nursery.start_soon(self._let_drain, upstream, self._scopes[upstream])

    async def _let_drain(self, upstream: Upstream, scope: trio.CancelScope) -> None:
        await upstream.drain(trio.current_time() + self._drain_grace)
        scope.cancel()
