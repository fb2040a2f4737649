"""Run fuzz targets: `python fuzz/run.py --seconds 60 [TARGET...]`.

Each target is first replayed on its corpus, then fed by turns from its hypothesis strategy and from mutations of the
corpus, until its share of the seconds is over. An input with an outcome not seen before joins the mutations, and with
`--keep` the corpus. An input that breaks the invariant is written to the corpus, named `broken-...`, and ends the run
with status 1; from then on every run replays it.
"""

import argparse
import hashlib
import importlib
import random
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

HERE = Path(__file__).resolve().parent
TARGETS = ("packets", "topic_filters", "server_machine", "client_machine", "proxy_headers")
LONGEST_INPUT = 4096
INTERESTING = (b"\0", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xff\xff", b"\x80\x80", b"\0\0", b"+", b"#", b"/", b"$")


class Target(Protocol):
    """What a target module offers."""

    strategy: SearchStrategy[bytes]

    def check(self, data: bytes) -> object:
        """Hold the invariant on one input; return what marks it as new."""


class BrokenError(Exception):
    """The invariant does not hold for `data`."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class Session:
    """One target being run: its inputs so far and what they led to."""

    def __init__(self, name: str, target: Target, rng: random.Random, *, keep: bool) -> None:
        self.name = name
        self.target = target
        self.rng = rng
        self.keep = keep
        self.corpus = HERE / "corpus" / name
        self.pool: list[bytes] = []
        self.outcomes: set[object] = set()
        self.runs = 0

    def replay(self) -> None:
        """Run everything in the corpus."""
        for path in sorted(self.corpus.iterdir()):
            data = path.read_bytes()
            self.try_one(data)
            self.pool.append(data)

    def try_one(self, data: bytes) -> bool:
        """Run one input and tell whether its outcome is new."""
        self.runs += 1
        try:
            outcome = self.target.check(data)
        except Exception as error:
            raise BrokenError(data) from error
        is_new = outcome not in self.outcomes
        self.outcomes.add(outcome)
        return is_new

    def run(self, seconds: float) -> None:
        """Replay, then generate and mutate until the time is over."""
        self.replay()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self._generate()
            for _ in range(2000):
                data = mutate(self.rng.choice(self.pool), self.rng, self.pool)
                if self.try_one(data):
                    self.remember(data)
                if time.monotonic() > ends:
                    break

    def _generate(self) -> None:
        @settings(
            max_examples=100,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(self.target.strategy)
        def feed(data: bytes) -> None:
            if self.try_one(data):
                self.remember(data)

        feed()

    def remember(self, data: bytes) -> None:
        """Let an input take part in the mutations to come."""
        self.pool.append(data)
        if self.keep:
            self.write("found", data)

    def write(self, why: str, data: bytes) -> Path:
        """Write an input to the corpus under a name that its content gives."""
        path = self.corpus / f"{why}-{hashlib.sha256(data).hexdigest()[:16]}"
        path.write_bytes(data)
        return path


def mutate(data: bytes, rng: random.Random, pool: list[bytes]) -> bytes:
    """Return the input with one to four random changes."""
    changed = bytearray(data or b"\0")
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed) + 1)
        rng.choice(MUTATIONS)(changed, place, rng, pool)
    return bytes(changed[:LONGEST_INPUT])


def _flip(data: bytearray, place: int, rng: random.Random, _pool: list[bytes]) -> None:
    if place < len(data):
        data[place] ^= 1 << rng.randrange(8)


def _count(data: bytearray, place: int, rng: random.Random, _pool: list[bytes]) -> None:
    if place < len(data):
        data[place] = (data[place] + rng.choice((-2, -1, 1, 2))) % 256


def _put(data: bytearray, place: int, rng: random.Random, _pool: list[bytes]) -> None:
    piece = rng.choice(INTERESTING)
    data[place : place + rng.choice((0, len(piece)))] = piece


def _drop(data: bytearray, place: int, rng: random.Random, _pool: list[bytes]) -> None:
    del data[place : place + rng.randint(1, 8)]


def _repeat(data: bytearray, place: int, rng: random.Random, _pool: list[bytes]) -> None:
    data[place:place] = data[place : place + rng.randint(1, 64)]


def _splice(data: bytearray, place: int, rng: random.Random, pool: list[bytes]) -> None:
    other = rng.choice(pool)
    data[place:] = other[rng.randrange(len(other) + 1) :]


MUTATIONS: tuple[Callable[[bytearray, int, random.Random, list[bytes]], None], ...] = (
    _flip,
    _count,
    _put,
    _drop,
    _repeat,
    _splice,
)


def main() -> int:
    """Run what the command line asks for and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", metavar="TARGET", nargs="*", help=f"{', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (default 60)")
    parser.add_argument("--seed", type=int, help="of the mutations; default: another one each time")
    parser.add_argument("--keep", action="store_true", help="write inputs with new outcomes to the corpus")
    asked = parser.parse_args()
    names: list[str] = asked.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    sys.path.insert(0, str(HERE.parent))  # run as a file, only this folder would be on the path
    seed: int = asked.seed if asked.seed is not None else time.time_ns() % 2**32
    for name in names:
        target = cast("Target", importlib.import_module(f"fuzz.{name}"))
        session = Session(name, target, random.Random(seed), keep=asked.keep)  # noqa: S311 - no secret hangs on it
        try:
            session.run(asked.seconds / len(names))
        except BrokenError as broken:
            traceback.print_exception(broken.__cause__)
            print(f"{name}: the invariant does not hold, see {session.write('broken', broken.data)}")
            return 1
        print(f"{name}: {session.runs} inputs, {len(session.outcomes)} outcomes, seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
