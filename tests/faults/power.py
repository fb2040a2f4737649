"""The power fails under load, and what was acknowledged must be there: `python -m tests.faults.power --rounds 50`.

Two ways. `torn`: from a log of everything that reached the files, see disk/image.py: the meaner one, needs no rights.
`image`: the data folder is a file system in a file, mounted so that it writes by itself only every 300 seconds; the
file is copied after `kill -9`, and holds what was synchronised. Needs root and loop devices.
"""

import argparse
import errno
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.faults.disk.image import LUCKS, Disk, read_log
from tests.faults.disk.load import Absent, Away, Held, Place, Sender
from tests.faults.disk.mounting import NotPossibleError, as_root, mounted
from tests.faults.disk.scene import Scene, opened, write_place
from tests.harness import start_proxy

PLACES: Final[dict[str, Callable[[], Place]]] = {"spool": Away, "sessions": Absent, "quarantine": Held}
IMAGE_SIZE: Final = 128 * 1024 * 1024
PADDING: Final = (0, 3_000, 40_000)  # of what each sender sends: so that logs are copied back within a second or two


def load(scene: Scene, seconds: float) -> None:
    """Publish for a while, whatever happens to the disk."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for sender in scene.senders:
            sender.step(sender.sent + sender.window, 0.005)


def check_copy(folder: Path, place: Place, senders: Sequence[Sender], until: float) -> int:
    """Start a proxy on what is left and check it; returns how many acknowledged messages had to be there.

    Args:
        folder: with the settings and the data.
        place: which has found nothing yet.
        senders: what they were told.
        until: the moment of the loss.

    """
    proxy = start_proxy(folder / "proxy.toml")
    try:
        assert proxy.ready
        for event in ("journal_set_aside", "journal_lost_commits", "quarantine_set_aside"):
            assert not proxy.log(event), proxy.tail()
        arrivals = place.collect(proxy)
        for sender in senders:
            sender.check(arrivals, until)
        proxy.check_unharmed()
    finally:
        proxy.kill()
        place.close()
    return sum(moment <= until for sender in senders for moment in sender.acknowledged.values())


# Torn writes.


def lose_power_torn(
    folder: Path, make: Callable[[], Place], rounds: int, seed: int, *, seconds: float = 2.0, failing: bool = False
) -> Iterator[str]:
    """Record one run, and lose the power at random moments of it; yields what each round was.

    Args:
        folder: for everything.
        make: where acknowledged messages must be.
        rounds: how often.
        seed: of the moments, and of what reaches the disk.
        seconds: of load.
        failing: fsync fails now and then too.

    """
    chance = random.Random(seed)
    log = folder / "log"
    with opened(folder / "proxy", make(), log=log) as scene:
        for padding in PADDING:
            scene.sender(padding=padding, moment=lambda: scene.faults.logged)
        begin = scene.faults.logged
        for _ in range(4):
            if failing:
                part, at = chance.choice([("-wal", 20), (".sqlite3$", 2), ("", 20)])  # a log, tables, anything
                scene.faults.fail("sync", errno.EIO, at=chance.randint(1, at), times=1, part=part)
            load(scene, seconds / 4)
        scene.proxy.kill()
        moments = sorted(_moments(log, begin, rounds, chance))
        steps, disk = read_log(log), Disk(str(scene.data))
        step = next(steps, None)
        for number, moment in enumerate(moments):
            while step is not None and step.end <= moment:
                disk.take(step)
                step = next(steps, None)
            luck = chance.choice(LUCKS)
            place = scene.place.again()
            copy = folder / f"copy{number}"
            write_place(copy, place)
            disk.write_image(copy / "data", luck, chance)
            told = check_copy(copy, place, scene.senders, moment)
            shutil.rmtree(copy)
            yield f"byte {moment} of the log, {luck}: {told} acknowledged, 0 lost"


def _moments(log: Path, begin: int, rounds: int, chance: random.Random) -> Iterator[int]:
    """Yield where in the log the power fails: anywhere, and every other time soon after an fsync that failed."""
    end = log.stat().st_size
    failures = [step.end for step in read_log(log) if step.failed and step.end > begin]
    for number in range(rounds):
        if failures and number % 2:
            yield min(end, chance.choice(failures) + chance.randint(0, 300_000))
        else:
            yield chance.randint(begin, end)


# An image of a file system.


def lose_power_image(
    folder: Path, make: Callable[[], Place], rounds: int, seed: int, *, seconds: float = 1.0
) -> Iterator[str]:
    """Lose the power of a file system after each of several loads; arguments as in `lose_power_torn`.

    Raises:
        NotPossibleError: this machine does not allow it.

    """
    chance = random.Random(seed)
    for number in range(rounds):
        here = folder / f"round{number}"
        image, copy = here / "disk", here / "copy"
        here.mkdir(parents=True)
        with image.open("wb") as file:
            file.truncate(IMAGE_SIZE)
        as_root("mkfs.ext4", "-q", "-F", str(image))
        with mounted(image, here / "proxy" / "data"), opened(here / "proxy", make()) as scene:
            for padding in PADDING:
                scene.sender(padding=padding)
            load(scene, seconds * (0.5 + chance.random()))
            scene.proxy.kill()
            as_root("cp", "--sparse=always", str(image), str(copy))
        place = scene.place.again()
        write_place(here / "after", place)
        with mounted(copy, here / "after" / "data"):
            told = check_copy(here / "after", place, scene.senders, float("inf"))
        shutil.rmtree(here)
        yield f"{told} acknowledged, 0 lost"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--way", choices=["torn", "image"], default="torn")
    parser.add_argument("--place", choices=list(PLACES), default="spool")
    parser.add_argument("--failing", action="store_true", help="fsync fails now and then too (torn only)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--each", type=int, default=10, help="losses for each run (torn only)")
    given = parser.parse_args(arguments)
    make, done, told = PLACES[given.place], 0, 0
    print(f"seed {given.seed}", flush=True)
    while done < given.rounds:
        with TemporaryDirectory(prefix="power-") as name:
            seed, left = given.seed + done, given.rounds - done
            if given.way == "image":
                rounds = lose_power_image(Path(name), make, left, seed)
            else:
                rounds = lose_power_torn(Path(name), make, min(left, given.each), seed, failing=given.failing)
            try:
                for words in rounds:
                    done += 1
                    told += int(words.partition(" acknowledged")[0].rpartition(" ")[2])
                    print(f"{done}: {words}", flush=True)
            except NotPossibleError as error:
                print(f"NOT RUN: {error}", file=sys.stderr)
                return 2
    print(f"| power lost ({given.way}, {given.place}) | {done} times | {told} acknowledged in all | 0 lost |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
