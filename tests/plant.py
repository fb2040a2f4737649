"""The real proxy on real files in this process, without a door, its upstreams out of reach; it can be killed.

    plant = Plant(tmp_path)
    plant.hold(make_held(payload=b"1"))
    plant.order(filters=Filters())
    await plant.run_until_over()
    assert plant.spooled("a") == [...]

A kill is at a call to the disk, before or after it: nothing reaches the disk from then on.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import trio
from attrs import define, evolve

from mqttproxy.app import Proxy
from mqttproxy.config.load import parse_config
from mqttproxy.database import make_store
from mqttproxy.journal import Changes, Loaded, Row, Store
from mqttproxy.mqtt.packets import Properties, Subscription
from mqttproxy.outside import REAL
from mqttproxy.quarantine import releases
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.database import connect_existing, quarantine_dir
from mqttproxy.quarantine.filters import Filters, prepare
from mqttproxy.quarantine.model import Held, Record, properties_from_json
from mqttproxy.quarantine.releases import Order, Release
from mqttproxy.quarantine.writer import Writer
from mqttproxy.recipe import CompileRecipe, compile_recipe
from mqttproxy.ruleset import Ruleset
from mqttproxy.sessions.records import SessionRow, SubscriptionRow
from mqttproxy.spool.encoding import Record as Spooled
from mqttproxy.spool.reader import SqliteReader
from mqttproxy.tables import DATABASE, journal_dir
from mqttproxy.upstream.guard import HELD_ID
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation import build_generation
from tests.fake_rooms import Shelf
from tests.house import NUMBERS
from tests.quarantine.examples import NOW, make_writer

CONFIG: Final = """
[proxy]
data_dir = "data"

[[policies]]
name = "numbers"
topics = ["n/#"]
schema = "number@1"

[[upstreams]]
name = "a"
url = "mqtt://127.0.0.1:1"

[[upstreams]]
name = "b"
url = "mqtt://127.0.0.1:1"

[[routes]]
topics = ["n/#"]
to = ["a", "b"]
home = "local"

[[routes]]
topics = ["only/a/#"]
to = ["a"]
ack = "memory"

[[routes]]
topics = ["here/#"]
to = ["local"]

[default]
unrouted = "refuse"
"""


class KilledError(Exception):
    """The process is dead."""


@define(eq=False)
class Axe:
    """Kills at the n-th call to the disk. `calls`: how many there were."""

    at: int = 0
    side: Literal["before", "after"] = "before"
    calls: int = 0
    is_dead: bool = False

    def around(self, call: Callable[[], Any]) -> Any:
        self.calls += 1
        number = self.calls  # another thread may call meanwhile
        self._swing(number, "before")
        result = call()
        self._swing(number, "after")
        return result

    def _swing(self, number: int, side: Literal["before", "after"]) -> None:
        self.is_dead |= (number, side) == (self.at, self.side)
        if self.is_dead:
            raise KilledError


class _MortalStore:
    """The journal's database."""

    def __init__(self, inner: Store, axe: Axe) -> None:
        self.inner = inner
        self.axe = axe
        self.set_aside, self.news = inner.set_aside, inner.news
        self.epoch = 0

    def load(self) -> Loaded:
        loaded = self.inner.load()
        self.epoch = self.inner.epoch
        return loaded

    def prepare(self, changes: Changes) -> bool:
        if self.axe.is_dead:
            raise KilledError
        return self.inner.prepare(changes)

    def apply(self, changes: Changes) -> None:
        self.axe.around(lambda: self.inner.apply(changes))

    def close(self) -> None:
        self.inner.close()


class _MortalWriter(Writer):
    axe: Axe

    def use(self, work: Callable[[Any, Any], Any]) -> Any:
        return self.axe.around(lambda: super(_MortalWriter, self).use(work))


async def _nowhere(*_: Any, **__: Any) -> Any:
    await trio.lowlevel.checkpoint()
    raise OSError("out of reach")


class Plant:
    """See the module."""

    def __init__(self, folder: Path, config: str = CONFIG, *, compile_recipe: CompileRecipe = compile_recipe) -> None:
        self.folder = folder
        self.config = parse_config(config, "proxy.toml", folder, unreadable=lambda _: None)
        self.quarantine = quarantine_dir(folder / "data")
        self.proxy: Proxy
        self._compile = compile_recipe
        self.use_rules(config)

    def use_rules(self, config: str) -> None:
        """Let the next process have this configuration."""
        self.config = parse_config(config, "proxy.toml", self.folder, unreadable=lambda _: None)
        generation = build_generation(1, self.config, Shelf(NUMBERS))
        self.ruleset = Ruleset(self.config, generation, RouteTable(self.config))

    # What is there at the start.

    def hold(self, *held: Held) -> None:
        writer = make_writer(self.quarantine)
        writer.commit(held)
        writer.close()

    def subscribe(self, client_id: str, topic_filter: str, number: int = 1) -> None:
        """Make a session that outlives its connection, whose device is away."""
        changes = Changes()
        rows: Iterable[Row] = (
            SessionRow(number, client_id, 1e9, NOW),
            SubscriptionRow(number, Subscription(topic_filter, 2), 0),
        )
        for row in rows:
            changes.put(row, is_new=True)
        store = make_store(journal_dir(self.folder / "data"))
        store.apply(changes)
        store.close()

    def order(self, **what: Any) -> int:
        """Order a release, fast unless told otherwise; returns its number."""
        order = evolve(Order(filters=Filters(), rate=1e6), **what)
        with self._connection("rw") as connection:
            return releases.add(connection, order, NOW).number

    def cancel(self, number: int) -> bool:
        with self._connection("rw") as connection:
            return releases.cancel(connection, number, NOW)

    # Life.

    async def run_until_over(self, axe: Axe | None = None, number: int = 1) -> None:
        """Start the proxy and let it do the release; returns when that is over. An axe may end it earlier."""
        async with self.running(axe):
            await self.until(lambda: self.release(number).state not in releases.AT_WORK)

    @asynccontextmanager
    async def running(self, axe: Axe | None = None) -> AsyncIterator[Proxy]:
        """Run the proxy beside the block. An axe may end both."""
        mortal = axe or Axe()
        self.proxy = self.make(mortal)
        try:
            async with trio.open_nursery() as nursery:
                await self.proxy.open_rooms(nursery)
                yield self.proxy
                nursery.cancel_scope.cancel()
        except* KilledError:
            assert mortal.is_dead

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(30):
            while not condition():  # noqa: ASYNC110 # the answer is on disk
                await trio.sleep(0.005)  # real time: threads and the disk are at work

    def make(self, axe: Axe) -> Proxy:
        def store_of(directory: Path, *, survives_power_loss: bool) -> Store:
            return _MortalStore(make_store(directory, survives_power_loss=survives_power_loss), axe)

        def writer_of(*arguments: Any, **how: Any) -> Writer:
            writer = _MortalWriter(*arguments, **how)
            writer.axe = axe
            return writer

        outside = evolve(REAL, wall=lambda: NOW + 60, dial=_nowhere, make_store=store_of, make_writer=writer_of)
        proxy = Proxy(self.folder / "proxy.toml", self.config, self.ruleset, dry_run=False, outside=outside)
        proxy.releases.compile = self._compile
        return proxy

    # What has become of it.

    def release(self, number: int = 1) -> Release:
        with self._connection("ro") as connection:
            found = releases.get(connection, number)
        assert found is not None
        return found

    def records(self) -> dict[str, Record]:
        with Archive(self.quarantine) as archive:
            return {record.id: record for record in archive.search(Filters())}

    def spooled(self, upstream: str) -> list[Spooled]:
        """Return what waits on disk for an upstream, in order."""
        reader = SqliteReader(journal_dir(self.folder / "data") / DATABASE)
        number = self._numbers().get(upstream)
        if number is None:  # it is on record with its first message
            return []
        runs = reader.runs(1 << number, 0, 10**9)
        reader.close()
        return [pair[0] for run in runs for pair in run.decode() if pair is not None]

    def queued(self) -> list[tuple[str, bytes, Properties]]:
        """Return what waits on disk for sessions, in order."""
        sql = (
            "SELECT topic, payload, properties FROM queued JOIN messages ON messages.number = message"
            " ORDER BY queued.number"
        )
        return [(topic, payload, properties_from_json(text)) for topic, payload, text in self.table(sql)]

    def table(self, sql: str) -> list[Any]:
        """Return rows of the journal's database."""
        with closing(sqlite3.connect(journal_dir(self.folder / "data") / DATABASE)) as connection:
            return connection.execute(sql).fetchall()

    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in self.table("SELECT number, name FROM destinations")}

    @contextmanager
    def _connection(self, mode: str) -> Iterator[sqlite3.Connection]:
        with closing(connect_existing(self.quarantine, mode)) as connection:
            prepare(connection)
            yield connection


def held_ids(messages: Iterable[Spooled] | Sequence[tuple[str, bytes, Properties]]) -> list[str]:
    """Return which held messages these are."""
    properties = [message.properties if isinstance(message, Spooled) else message[2] for message in messages]
    return [value for one in properties for name, value in one.user_properties if name == HELD_ID]
