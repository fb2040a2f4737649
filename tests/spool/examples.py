"""Pieces around the spool that tests of it share."""

from collections.abc import Callable, Mapping, Sequence

import trio
from attrs import define, field

from mqttproxy.apart import ToThread
from mqttproxy.config.model import SpoolSettings
from mqttproxy.handover import Ticket
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.spool import Entry, Feeding, Spool
from mqttproxy.spool.feed import Item
from mqttproxy.validation import Identity
from tests.fake_rooms import FakeJournal, MemoryReader, in_place

SENDER = Identity("d", "u", "192.0.2.7", "plain")


class Sink:
    """A destination: takes so many messages, until some are settled. `taken`: number and payload, in order."""

    def __init__(self, bound: int = 1000) -> None:
        self.bound = bound
        self.held: list[Item] = []
        self.taken: list[int] = []
        self.payloads: list[bytes] = []
        self.offers = 0
        self.is_retired = False
        self._room = trio.Event()

    def offer(self, items: Sequence[Item]) -> int:
        self.offers += 1
        some = items[: max(0, self.bound - len(self.held))]
        self.held += some
        self.taken += [item[1].number for item in some]
        self.payloads += [item[0].payload for item in some]
        return len(some)

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()
        while len(self.held) >= self.bound and not self.is_retired:
            await self._room.wait()

    def set_bound(self, bound: int) -> None:
        self.bound = bound
        self._tell()

    def let_go(self, *positions: int) -> list[Entry]:
        """Let go of all, or what is at these positions; returns the tokens."""
        chosen = list(positions or range(len(self.held)))
        gone = [self.held[position][1] for position in chosen]
        self.held = [item for position, item in enumerate(self.held) if position not in set(chosen)]
        self._tell()
        return gone

    def retire(self) -> None:
        """Be removed: nobody waits for room here any more."""
        self.is_retired = True
        self._tell()

    def _tell(self) -> None:
        self._room.set()
        self._room = trio.Event()


class Sender:
    """Who sent messages, as the pipeline sees devices."""

    def __init__(self, identity: Identity = SENDER) -> None:
        self.identity = identity
        self.pending: list[Ticket] = []
        self.unacknowledged = 0
        self.promised: list[int] = []

    def acknowledge(self, now: float) -> None: ...

    def promise(self, packet_id: int) -> None:
        self.promised.append(packet_id)

    def disconnect(self, reason: ReasonCode, words: str) -> None: ...


@define(eq=False)
class Store:
    """A spool with its feeding around a fake journal, as one process has it."""

    journal: FakeJournal
    spool: Spool
    feeding: Feeding
    sinks: dict[str, Sink]
    acknowledged: list[Ticket] = field(factory=list)
    accepted: list[Ticket] = field(factory=list)
    count: int = 0

    def append(self, *payloads: bytes, to: str = "a", qos: int = 1, may_drop: bool = False, **how: object) -> None:
        """Append one batch; `to`: a letter for each destination."""
        self.spool.append(
            [(Message("t", payload, qos), self.ticket(qos)) for payload in payloads],
            self.spool.share_of(to, may_drop=may_drop),
            **how,  # type: ignore[arg-type] # as given
        )

    def ticket(self, qos: int = 1, origin: Sender | None = None) -> Ticket:
        self.count += 1
        return Ticket(origin or Sender(), self.count, qos, 0, 0.0, 1, 1)  # type: ignore[arg-type] # a fake

    def settle(self, name: str = "a", *positions: int) -> None:
        """Let a destination acknowledge."""
        self.spool.settled(name, self.sinks[name].let_go(*positions))


def make_store(
    *names: str,
    journal: FakeJournal | None = None,
    settings: SpoolSettings | None = None,
    reader: Callable[[FakeJournal], MemoryReader] = MemoryReader,
    to_thread: ToThread = in_place,
) -> Store:
    """Make one; its feeding is not started, and nothing restored."""
    kept = FakeJournal() if journal is None else journal
    spool = Spool(kept, settings or SpoolSettings())
    feeding = Feeding(spool, kept, reader(kept), to_thread=to_thread, rest=0.0)
    store = Store(kept, spool, feeding, {name: Sink() for name in names})
    spool.acknowledged, spool.accepted = store.acknowledged.extend, store.accepted.extend
    return store


def use(store: Store, sinks: Mapping[str, Sink] | None = None, account: str = "account") -> None:
    """Feed these destinations."""
    chosen = store.sinks if sinks is None else dict(sinks)
    store.feeding.use(chosen, dict.fromkeys(chosen, account))
