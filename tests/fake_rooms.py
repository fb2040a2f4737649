"""The rooms around the pipeline and the door, as fakes that answer when the test says so. `house.py` joins them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import orjson
import trio

from mqttproxy.config.model import Address, ListenerSettings, UpstreamSettings
from mqttproxy.handover import Item
from mqttproxy.journal import Journal, Row
from mqttproxy.mqtt.packets import Message, Publish
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.pipeline import Pipeline
from mqttproxy.quarantine.model import Held
from mqttproxy.refusal import Refusal
from mqttproxy.spool.reader import Run, Sum
from mqttproxy.spool.rows import RunRow
from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.transport.listen import BadIntroductionError
from mqttproxy.transport.proxy_header import ProxyHeader
from mqttproxy.transport.revoked import Revoked
from mqttproxy.transport.stream import TransportError
from mqttproxy.upstream.callbacks import Arrival, Poison, Unshaped
from tests.fakes import MemoryByteStream


class Surroundings(Protocol):
    """What the fakes tell their news to."""

    @property
    def pipeline(self) -> Pipeline: ...

    @property
    def refusal(self) -> Refusal: ...


class FakeUpstream:
    """A destination whose outbox nobody empties but the test, and a broker that subscribes to whatever it is asked.

    Attributes:
        bound: messages that it takes until the test lets some go.
        taken: what it holds, in order.
        arrived: all that it ever took, in order.
        ever_taken, settled, refusals, forced_out: payloads, by what became of them.
        wanted: filters that devices want, and how many.
        asked: every time it was asked for one, and for whom what is retained.
        answers: what the broker says to a filter instead of success; None: nothing.

    """

    def __init__(self, settings: UpstreamSettings) -> None:
        self.name = settings.name
        self.settings = settings
        self.is_live = True
        self.bound = 1000
        self.taken: list[Item] = []
        self.carried: list[str] = []  # topics that went away from here, as they went
        self.ever_taken: set[bytes] = set()
        self.arrived: list[Message] = []
        self.settled: set[bytes] = set()
        self.refusals: set[bytes] = set()
        self.forced_out: set[bytes] = set()
        self.offered = self.delivered = self.refused = 0
        self.dropped: Counter[str] = Counter()
        self.wanted: Counter[str] = Counter()
        self.asked: list[tuple[str, object | None]] = []
        self.answers: dict[str, ReasonCode | None] = {}
        self.house: Surroundings
        self._room = trio.Event()

    @property
    def topics(self) -> list[str]:
        return [message.topic for message, _ in self.taken]

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message, _ in self.taken]

    # As the pipeline sees it.

    def offer(self, items: Sequence[tuple[Message, object]]) -> int:
        some = items[: max(0, self.bound - len(self.taken))]
        self._add(some)
        self.offered += len(some)
        return len(some)

    def force_oldest(
        self, items: Sequence[tuple[Message, object]], may_drop: Callable[[tuple[Message, object]], bool]
    ) -> list[object]:
        self._add(items)
        self.offered += len(items)
        droppable = [place for place, item in enumerate(self.taken) if may_drop(item)]
        gone = self._take(droppable[: max(0, len(self.taken) - self.bound)])
        self.forced_out |= {message.payload for message, _ in gone}
        self.dropped["drop_oldest"] += len(gone)
        return [token for _, token in gone if token is not None]

    def count_dropped(self, messages: int, reason: str) -> None:
        self.offered += messages
        self.dropped[reason] += messages

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()
        while len(self.taken) >= self.bound:
            await self._room.wait()

    # As subscriptions see it.

    def subscribe(
        self, topic_filter: str, qos: int, *, retained_for: object | None = None, as_published: bool = False
    ) -> None:
        self.wanted[topic_filter] += 1
        self.asked.append((topic_filter, retained_for))

    def unsubscribe(self, topic_filter: str, *, as_published: bool = False) -> None:
        self.wanted[topic_filter] -= 1
        assert self.wanted[topic_filter] >= 0
        self.wanted += Counter()  # without what is zero

    async def wait_subscribed(self, topic_filter: str) -> ReasonCode:
        await trio.lowlevel.checkpoint()
        answer = self.answers.get(topic_filter, ReasonCode.SUCCESS)
        if answer is None:
            await trio.sleep_forever()
            raise AssertionError
        return answer

    # What the test does with it.

    def settle(self, *positions: int) -> None:
        """Acknowledge what it holds: all, or those at these positions, in the order given, in one read of the link."""
        gone = self._take(positions or range(len(self.taken)))
        self.delivered += len(gone)
        self.settled |= {message.payload for message, _ in gone}
        self.house.pipeline.settling.settled(self.name, [ticket for _, ticket in gone if ticket is not None])

    def refuse(self, reason: ReasonCode | Poison | Unshaped, *positions: int) -> None:
        """Answer what it holds, or some of it, in the negative."""
        gone = self._take(positions or range(len(self.taken)))
        self.refused += len(gone)
        self.refusals |= {message.payload for message, _ in gone}
        self.house.refusal.refused_by(self.name, [(ticket, message, reason) for message, ticket in gone])

    def send(self, *publishes: Publish) -> None:
        """Let the broker send messages."""
        self.house.pipeline.carry_down(self.name, [Arrival(publish) for publish in publishes], lambda _=None: None)

    def snapshot(self, waiting: int) -> DestinationSnapshot:
        return DestinationSnapshot(
            name=self.name,
            kind="mqtt",
            connected=self.is_live,
            in_flight=len(self.taken),
            waiting=waiting,
            offered=self.offered + waiting,
            delivered=self.delivered,
            refused=self.refused,
            dropped=self.dropped,
        )

    def make_room(self, messages: int) -> None:
        """Take so many messages more."""
        self.bound += messages
        self._tell_room()

    def _add(self, items: Sequence[tuple[Message, object]]) -> None:
        self.taken += cast("Sequence[Item]", items)
        self.ever_taken |= {message.payload for message, _ in items}
        self.arrived += [message for message, _ in items]

    def _take(self, positions: Iterable[int]) -> list[Item]:
        chosen = list(positions)
        gone = [self.taken[position] for position in chosen]
        self.taken = [item for position, item in enumerate(self.taken) if position not in set(chosen)]
        self.carried += [message.topic for message, _ in gone]
        self._tell_room()
        return gone

    def _tell_room(self) -> None:
        self._room.set()
        self._room = trio.Event()


class FakeQuarantine:
    """Commits when the test says so, or at once. `bound` messages may wait."""

    def __init__(self) -> None:
        self.bound = 1000
        self.waiting: list[tuple[Held, object]] = []
        self.kept: list[Held] = []
        self.house: Surroundings
        self._room = trio.Event()

    def hold_nowait(self, held: Held, token: object) -> None:
        if len(self.waiting) >= self.bound:
            raise trio.WouldBlock
        self.waiting.append((held, token))

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()
        while len(self.waiting) >= self.bound:
            await self._room.wait()

    def commit(self, count: int | None = None) -> None:
        """Say that what waits, or the first of it, is on disk."""
        now, self.waiting = self.waiting[:count], self.waiting[len(self.waiting[:count]) :]
        self.kept += [held for held, _ in now]
        self._room.set()
        self._room = trio.Event()
        self.house.refusal.committed([token for _, token in now])


class FakeLog:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def debug(self, event: str, /, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})

    info = warning = error = exception = debug

    def bind(self, **fields: Any) -> "FakeLog":
        return self

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


class FakeListener:
    """Accepts what the test connects. `patience`: seconds that its handshake takes."""

    def __init__(self) -> None:
        self.settings = ListenerSettings(name="plain", bind=Address("127.0.0.1:0"))
        self.patience = 0.0
        self.failure: str | None = None
        self.closed = False
        self.revoked: Revoked | None = None
        self.balancers: dict[str, ProxyHeader | None] = {}  # by address: what its PROXY headers say; None: what is none
        self._send, self._receive = trio.open_memory_channel[MemoryByteStream](1_000_000)

    def arrive(self, stream: MemoryByteStream) -> None:
        self._send.send_nowait(stream)

    async def accept(self) -> MemoryByteStream:
        return await self._receive.receive()

    @property
    def is_behind_balancers(self) -> bool:
        return bool(self.balancers)

    def believes(self, host: str) -> bool:
        return host in self.balancers

    async def introduce(self, raw: MemoryByteStream) -> bool:
        await trio.lowlevel.checkpoint()
        header = self.balancers[raw.peer.host]
        if header is None:
            raise BadIntroductionError("no header")
        raw.peer = raw.peer.introduced(header)
        return True

    async def handshake(self, raw: MemoryByteStream) -> MemoryByteStream:
        await trio.sleep(self.patience)
        if self.failure is not None:
            raise TransportError(self.failure)
        return raw

    def close(self) -> None:
        self.closed = True


class FakeJournal(Journal):
    """The sessions' journal: commits when the test says so, or at once. It keeps nothing."""

    def __init__(self, *, at_once: bool = True) -> None:
        super().__init__(None)
        self.at_once = at_once
        self.commits: list[Callable[[], None]] = []  # what waits for one
        self.added: list[Row] = []
        self._durable = 0

    def add(self, row: Row) -> None:
        super().add(row)
        self.added.append(row)
        if self.is_clear:
            self._durable = len(self.added)

    @property
    def durable(self) -> list[Row]:
        """What was added and is committed."""
        return self.added[: self._durable]

    @property
    def is_clear(self) -> bool:
        return self.at_once and not self.commits

    def when_durable(self, call: Callable[[], None]) -> None:
        if self.is_clear:
            call()
        else:
            self.commits.append(call)

    def commit(self) -> None:
        commits, self.commits = self.commits, []
        self._durable = len(self.added)
        for call in commits:
            call()


class Shelf:
    """The schema folder in memory."""

    def __init__(self, files: Mapping[str, Any]) -> None:
        self._files = {path: orjson.dumps(schema) for path, schema in files.items()}

    def read(self, path: str) -> bytes:
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(2, "no such file", path) from None

    def names(self) -> Iterable[str]:
        return self._files

    def used(self) -> Mapping[str, str]:
        return {}

    def use(self, hashes: Mapping[str, str]) -> None:
        pass

    def descriptors(self, sources: Mapping[str, bytes], root: str) -> bytes:
        raise NotImplementedError("this shelf has JSON Schemas only")


class MemoryReader:
    """Reads what the fake journal was given, as if it came back from disk."""

    def __init__(self, journal: FakeJournal) -> None:
        self._journal = journal

    def _runs(self) -> list[Run]:
        rows = [row for row in self._journal.durable if isinstance(row, RunRow)]
        return [
            Run(row.first, row.last, row.mask, row.epoch, row.at, row.messages, row.size, bytes(row.data))
            for row in rows
        ]

    def masks(self) -> list[int]:
        return sorted({run.mask for run in self._runs()})

    def total(self, mask: int, after: int) -> Sum:
        runs = [run for run in self._runs() if run.mask == mask and run.last > after]
        last = max((run.last for run in runs), default=0)
        return Sum(sum(run.messages for run in runs), sum(run.size for run in runs), last)

    def runs(self, bit: int, after: int, size: int) -> list[Run]:
        found: list[Run] = []
        for run in self._runs():
            if run.last > after and run.mask & bit and size > 0:
                found.append(run)
                size -= len(run.data)
        return found

    def oldest(self, bit: int, after: int) -> float | None:
        return next((run.at for run in self._runs() if run.last > after and run.mask & bit), None)

    def highest(self) -> int:
        return max((run.last for run in self._runs()), default=0)

    def close(self) -> None:
        pass


async def in_place(
    call: Callable[[], Any], /, *, abandon_on_cancel: bool = True, limiter: trio.CapacityLimiter | None = None
) -> Any:
    """Stand in for `trio.to_thread.run_sync`: no thread, and so no real time."""
    await trio.lowlevel.checkpoint()
    return call()
