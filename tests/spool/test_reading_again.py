"""What a lagging destination is not to get, or not again, stays so over several reads of the same run."""

from types import SimpleNamespace

import pytest

from mqttproxy.config.model import SpoolSettings
from mqttproxy.mqtt.packets import Message
from mqttproxy.spool import Feeding, Spool
from mqttproxy.spool.feed import Feed, Item
from mqttproxy.spool.rows import RunRow
from mqttproxy.validation.identity import Identity
from tests.fake_rooms import FakeJournal, MemoryReader, in_place


class Lagging:
    """A spool with one message in each of some runs, for one destination, of which nothing has been handed out."""

    def __init__(self, messages: int, *, waits: bool = False) -> None:
        journal = FakeJournal()
        self.reader = MemoryReader(journal)
        self.spool = spool = Spool(journal, SpoolSettings())
        self.feeding = Feeding(spool, journal, self.reader, to_thread=in_place)
        self.feed: Feed = spool.feed("a")
        self.feed.lag()
        share = spool.share_of(["a"])
        origin = SimpleNamespace(identity=Identity("d", None, "192.0.2.7", "plain"))
        for number in range(messages):
            spool.append(
                [(Message("t", b"%d" % number, 1), SimpleNamespace(origin=origin, settle=bool))], share, waits=waits
            )
        self.rows = [row for row in journal.added if isinstance(row, RunRow)]

    async def read(self) -> list[Item]:
        return await self.feeding._read(self.feed)


def payloads(items: list[Item]) -> list[bytes]:
    return [message.payload for message, _ in items]


async def test_what_is_in_flight_is_skipped_again_when_it_is_read_again() -> None:
    lagging = Lagging(3)
    lagging.feed.resume([1, 3])
    first = await lagging.read()
    assert payloads(first) == [b"1"]
    lagging.feed.gave(first)
    assert payloads(await lagging.read()) == []
    assert lagging.feed.given == 3
    assert lagging.feed.skip == set()


async def test_a_damaged_message_is_counted_once_however_often_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lagging = Lagging(3)
    runs = lagging.reader._runs()
    runs[2] = runs[2]._replace(data=runs[2].data[:-1] + b"\xff")
    monkeypatch.setattr(lagging.reader, "_runs", lambda: runs)
    for _ in range(2):
        assert payloads(await lagging.read()) == [b"0", b"1"]
    lagging.feed.gave((await lagging.read())[:1])
    await lagging.read()
    assert lagging.feeding.damaged_total == 1
    assert lagging.feed.messages == 2


async def test_devices_that_wait_for_a_destination_hear_of_what_it_will_never_get(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lagging = Lagging(3, waits=True)
    lost: list[object] = []
    lagging.spool.lost = lost.extend
    runs = lagging.reader._runs()
    runs[1] = runs[1]._replace(data=runs[1].data[:-1] + b"\xff")
    monkeypatch.setattr(lagging.reader, "_runs", lambda: runs)
    await lagging.read()
    entry = lagging.spool.waiting_entry(2)
    assert entry is not None
    assert lost == [entry.ticket]
