"""Bytes of the journal are flipped, and its files cut off: `python -m tests.faults.corruption [--every N]`.

Each commit has one run of messages. Two states of the files: as `kill -9` leaves them, with everything in the log, and
after a clean end, with everything in the tables. Every byte that the last three commits have written is flipped, one
bit of it, and the file is cut at each of these places. Then the spool is restored and feeds a destination. Every
message must come exactly as it was, or the process must tell that something is missing or damaged.
"""

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio
import trio.testing
from attrs import define, field, frozen

from mqttproxy.config.model import SpoolSettings
from mqttproxy.database import make_store
from mqttproxy.journal import Changes, Journal
from mqttproxy.mqtt.packets import Message
from mqttproxy.spool import Feeding, Spool
from mqttproxy.spool.encoding import Batch, Sender
from mqttproxy.spool.feeding import TIDY_EVERY
from mqttproxy.spool.reader import SqliteReader
from mqttproxy.spool.rows import DestinationRow, RunRow
from mqttproxy.sqlite import NewerDatabaseError
from mqttproxy.tables import DATABASE
from mqttproxy.telemetry.logs import configure_logging
from tests.fake_rooms import in_place
from tests.spool.examples import Sink

RUNS: Final = 36
DAMAGED: Final = 3  # of them, the last
LOG: Final = DATABASE + "-wal"
LOG_HEAD: Final = 32
PAGE: Final = 4096
FRAME: Final = 24 + PAGE  # of the log
SENDER: Final = Sender("d", "u", "192.0.2.7", "plain")
LONGEST: Final = 60.0  # simulated seconds until a disk that cannot be read counts as told


@frozen
class Written:
    """What was committed: messages by number, and where in the log each commit ends."""

    messages: Mapping[int, Message]
    ends: Sequence[int]
    epoch: int


def write(folder: Path, running: Path) -> Written:
    """Commit runs one by one, and end; `running` is a copy of the folder as `kill -9` would have left it."""
    store = make_store(folder)
    store.load()
    messages: dict[int, Message] = {}
    ends = []
    for number in range(RUNS):
        # Small ones, and one that does not fit into a page.
        often = (1, 400, 1) if number == RUNS - 2 else (1, 2, 3)
        some = [Message(f"t/{number}", b"payload %d %d " % (number, one) * times, 1) for one, times in enumerate(often)]
        first = len(messages) + 1
        messages |= dict(enumerate(some, first))
        changes = Changes()
        if number == 0:
            changes.put(DestinationRow(0, "a", 0, "account"), is_new=True)
        batch = Batch([(message, None) for message in some], [(0, SENDER)])
        length = sum(len(message.payload) for message in some)
        row = RunRow(first, len(messages), 1, store.epoch, 1_000_000.5 + number, len(some), length, batch)
        changes.put(row, is_new=True)
        store.apply(changes)
        ends.append((folder / LOG).stat().st_size)
    shutil.copytree(folder, running)
    epoch = store.epoch
    store.close()
    assert not (folder / LOG).exists(), "not a clean end"
    return Written(messages, ends, epoch)


# What comes of it.


@define(eq=False)
class Outcome:
    """What a start on damaged files brings."""

    delivered: int = 0
    altered: int = 0
    told: list[str] = field(factory=list)  # how, the most telling first


async def _deliver(folder: Path, written: Written) -> Outcome:
    """Start what keeps the spool, and feed a destination from it."""
    store = make_store(folder, wall=lambda: 1_000_100.0)
    journal = Journal(store, to_thread=in_place, wall=lambda: 1_000_100.0)
    spool = Spool(journal, SpoolSettings())
    feeding = Feeding(spool, journal, SqliteReader(folder / DATABASE), to_thread=in_place, rest=0.0)
    sink = Sink(1_000_000)
    outcome = Outcome()
    try:
        with trio.move_on_after(LONGEST) as patience:
            async with trio.open_nursery() as nursery:
                await nursery.start(journal.run)
                await feeding.restore({"a": "account"})
                feeding.use({"a": sink}, {"a": "account"})
                await nursery.start(feeding.run)
                await trio.sleep(3 * TIDY_EVERY)
                nursery.cancel_scope.cancel()
    except* NewerDatabaseError:
        outcome.told.append("refused with words")
    finally:
        feeding.close()
    if patience.cancelled_caught:
        outcome.told.append("trouble")
    outcome.told += [how for how, count in _told(journal, spool, feeding).items() if count]
    given = Counter(entry.number for _, entry in sink.held)
    outcome.altered = sum(
        given[entry.number] > 1 or written.messages.get(entry.number) != message or entry.epoch != written.epoch
        for message, entry in sink.held
    )
    outcome.delivered = len(sink.held) - outcome.altered
    return outcome


def _told(journal: Journal, spool: Spool, feeding: Feeding) -> dict[str, object]:
    return {
        "set aside": journal.set_aside,
        "commits missing": journal.lost_commits,
        "damaged": feeding.damaged_total,
        "missing": feeding.missing_total,
        "dropped": any(any(feed.dropped.values()) for feed in spool.feeds.values()),
        "trouble": journal.trouble or feeding.trouble,
    }


def look(folder: Path, written: Written) -> Outcome:
    """Return what a start on this folder brings, in simulated time."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(_deliver, folder, written, clock=clock)


# The damage.


@define
class Figures:
    """What a sweep adds up to."""

    name: str
    tried: int = 0
    harmless: int = 0  # everything came
    told: Counter[str] = field(factory=Counter)
    silent: list[int] = field(factory=list)  # places where something was lost, and nobody was told
    altered: list[int] = field(factory=list)  # places where something came that was never sent
    crashed: list[int] = field(factory=list)  # places by which the process would end with a traceback

    @property
    def faults(self) -> list[int]:
        """Places of all that must not be."""
        return [*self.silent, *self.altered, *self.crashed]

    def add(self, place: int, outcome: Outcome, expected: int) -> None:
        self.tried += 1
        if outcome.altered:
            self.altered.append(place)
        elif outcome.told:
            self.told[outcome.told[0]] += 1
        elif outcome.delivered == expected:
            self.harmless += 1
        else:
            self.silent.append(place)

    def row(self) -> str:
        told = ", ".join(f"{how} {count}" for how, count in self.told.most_common()) or "-"
        cells = [self.name, self.tried, told, self.harmless, *map(len, (self.silent, self.altered, self.crashed))]
        return f"| {' | '.join(map(str, cells))} |"


def sweep(name: str, source: Path, file: str, places: Iterable[int], written: Written, *, cut: bool) -> Figures:
    """Damage a file at place after place, each time anew, and look."""
    figures = Figures(name)
    content = (source / file).read_bytes()
    copy = source.with_name("copy")
    for place in places:
        shutil.copytree(source, copy)
        damaged = bytearray(content)
        if cut:
            del damaged[place:]
        else:
            damaged[place] ^= 1 << place % 8
        (copy / file).write_bytes(damaged)
        try:
            figures.add(place, look(copy, written), len(written.messages))
        except Exception:  # noqa: BLE001 # what it is, a look at this place alone will tell
            figures.tried += 1
            figures.crashed.append(place)
        shutil.rmtree(copy)
    return figures


def pages_of(file: Path, written: Written) -> list[int]:
    """Return the pages of a database in which the last runs are, their entries in the index included."""
    content = file.read_bytes()
    last = [message.payload for message in list(written.messages.values())[-3 * DAMAGED :]]
    pages = set()
    for payload in last:
        for piece in (payload[:20], payload[-20:]):
            at = -1
            while (at := content.find(piece, at + 1)) >= 0:
                pages.add(at // PAGE)
    big = [payload for payload in last if len(payload) > PAGE // 2]
    for page in range(len(content) // PAGE):
        if any(content[page * PAGE + 100 : page * PAGE + 140] in payload for payload in big):
            pages.add(page)  # in the middle of what does not fit into one
    return sorted(pages)


@frozen
class Files:
    """A journal in its two states."""

    written: Written
    ended: Path
    killed: Path


def prepare(base: Path) -> Files:
    """Make the files; undamaged, they bring everything and tell nothing."""
    ended, killed = base / "ended", base / "killed"
    files = Files(write(ended, killed), ended, killed)
    for source in (killed, ended):
        copy = base / "copy"
        shutil.copytree(source, copy)
        outcome = look(copy, files.written)
        shutil.rmtree(copy)
        assert (outcome.delivered, outcome.told) == (len(files.written.messages), []), outcome
    return files


def sweep_log(files: Files, every: int) -> Iterator[Figures]:
    """Damage what the last commits have written to the log, at each so manieth place."""
    places = range(files.written.ends[-DAMAGED - 1], files.written.ends[-1], every)
    for cut in (False, True):
        name = f"log, {'cut off' if cut else 'flipped'}"
        yield sweep(name, files.killed, LOG, places, files.written, cut=cut)


def sweep_tables(files: Files, every: int) -> Iterator[Figures]:
    """Damage the pages that the last runs are in, and cut the file off from there on."""
    file = files.ended / DATABASE
    pages = pages_of(file, files.written)
    places = [at for page in pages for at in range(page * PAGE, page * PAGE + PAGE)][::every]
    yield sweep("tables, flipped", files.ended, DATABASE, places, files.written, cut=False)
    after = range(pages[0] * PAGE, file.stat().st_size, every)
    yield sweep("tables, cut off", files.ended, DATABASE, after, files.written, cut=True)


def sweep_all(files: Files, every: int) -> Iterator[Figures]:
    """Damage any byte of the database."""
    places = range(0, (files.ended / DATABASE).stat().st_size, every)
    yield sweep("all of the database, flipped", files.ended, DATABASE, places, files.written, cut=False)


SWEEPS: Final = {"log": sweep_log, "tables": sweep_tables, "all": sweep_all}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all sweeps, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--every", type=int, default=1, help="only every so manieth byte")
    parser.add_argument("--of", action="append", choices=list(SWEEPS), help="by default: log, tables")
    given = parser.parse_args(arguments)
    configure_logging(stream=Path(os.devnull).open("wb"))  # noqa: SIM115 # until the end
    memory = Path("/dev/shm")  # noqa: S108 # only to be quick
    print("| damage | places | told | harmless | silent loss | altered | crashed |", flush=True)
    print("|---|---|---|---|---|---|---|", flush=True)
    bad = 0
    with TemporaryDirectory(prefix="corruption-", dir=memory if memory.is_dir() else None) as name:
        files = prepare(Path(name))
        for one in given.of or ["log", "tables"]:
            for figures in SWEEPS[one](files, given.every):
                print(figures.row(), flush=True)
                bad += len(figures.faults)
                if figures.faults:
                    print(f"at {figures.faults[:20]}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
