"""One target being run: its inputs so far, what they led to, what they cost and what they left."""

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from attrs import define, field, frozen
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from fuzz.limits import LONGEST_CPU, SAMPLES, TRIES, Growth, HangError, cpu, watched, wind
from fuzz.mutations import LONGEST_BLOWN, Mutator

HERE: Final = Path(__file__).resolve().parent
MOST_KEPT: Final = 2_000  # inputs that take part in mutations; a new one takes the place of another
MOST_FILES: Final = 100  # of a corpus, found ones among them
LONGEST_KEPT: Final = 1_024  # bytes of one, since shorter ones are quicker
GENERATED: Final = 60.0  # seconds at most for inputs by hypothesis, which are good and slow
ROUND: Final = 500  # inputs between two looks at the clock


class Target(Protocol):
    """What a target module offers.

    It may offer `WORDS` too, bytes that mean something to it; `LARGEST`, the bytes of an input; and `LONGEST_CPU`, the
    seconds that one may take.
    """

    strategy: SearchStrategy[bytes]

    def check(self, data: bytes) -> object:
        """Hold the invariant on one input; return what marks it as new."""


class BrokenError(Exception):
    """The invariant does not hold for `data`."""

    def __init__(self, data: bytes, why: str) -> None:
        super().__init__(why)
        self.data = data


class GrownError(Exception):
    """There is more in memory than before, and no one input is to blame."""


@frozen
class Summary:
    """What became of a run."""

    target: str
    guided: bool
    inputs: int
    seconds: float
    outcomes: int
    slowest: float  # seconds of CPU
    objects: int
    resident: int
    finding: str = ""
    is_whole: bool = True  # False: it was interrupted

    def __str__(self) -> str:
        """Return one row of the table in docs/security.md."""
        how = "coverage" if self.guided else "outcomes"
        finding = " ".join(self.finding.replace("|", "/").split()) or "none"
        if not self.is_whole:
            finding += ", interrupted"
        grown = f"{self.objects:+} objects, {self.resident / 2**20:+.1f} MiB"
        return (
            f"| `{self.target}` | {how} | {self.inputs:,} | {self.seconds:,.0f} | {self.inputs / self.seconds:,.0f}"
            f" | {self.outcomes} | {self.slowest * 1000:.1f} | {grown} | {finding} |"
        )


HEAD: Final = (
    "| target | guided by | inputs | seconds | inputs/s | outcomes | slowest, ms | growth | findings |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


@define(eq=False)
class Session:
    """See the module.

    Attributes:
        note: is told of every input before it is tried, for those that end the process.
        keep: inputs with new outcomes are written to the corpus.

    """

    name: str
    target: Target
    rng: random.Random
    seconds: float
    most: int
    keep: bool = False
    guided: bool = False
    note: Callable[[bytes], None] = lambda _data: None
    pool: list[bytes] = field(factory=list)
    outcomes: set[object] = field(factory=set)
    runs: int = 0
    slowest: float = 0.0
    growth: Growth | None = None
    _began: float = field(factory=time.monotonic)

    @property
    def corpus(self) -> Path:
        """Where its inputs are kept."""
        return HERE / "corpus" / self.name

    @property
    def is_over(self) -> bool:
        """Whether its time is up, or it has had its inputs."""
        return self.runs >= self.most or time.monotonic() - self._began >= self.seconds

    def run(self) -> None:
        """Replay, generate, and mutate until it is over.

        Raises:
            BrokenError: an input breaks the invariant, or takes too long.
            GrownError: see there.

        """
        with watched():
            self.replay()
            self.generate()
            words: Sequence[bytes] = getattr(self.target, "WORDS", ())
            mutator = Mutator(self.rng, self.pool, words, getattr(self.target, "LARGEST", LONGEST_BLOWN))
            while not self.is_over:
                for _ in range(min(ROUND, self.most - self.runs)):
                    data = mutator.next()
                    if self.try_one(data):
                        self.remember(data)
                self.look()
        self.check_growth()

    def replay(self) -> None:
        """Run everything in the corpus."""
        for path in sorted(self.corpus.iterdir()):
            data = path.read_bytes()
            self.try_one(data)
            self.pool.append(data)

    def generate(self) -> None:
        """Run some of what hypothesis makes: for a tenth of the time."""
        ends = time.monotonic() + min(GENERATED, self.seconds / 10)
        while time.monotonic() < ends and self.runs < self.most / 10:
            self._generate()

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

    def try_one(self, data: bytes) -> bool:
        """Run one input and tell whether its outcome is new. Raises BrokenError."""
        self.note(data)
        wind()
        began = cpu()
        try:
            outcome = self.target.check(data)
        except (Exception, HangError) as error:
            raise BrokenError(data, f"{type(error).__name__}: {error}"[:200]) from error
        took = cpu() - began
        self.runs += 1
        if took > self.slowest:
            self.slowest = self._shortest(data, took)
            if self.slowest > getattr(self.target, "LONGEST_CPU", LONGEST_CPU):
                raise BrokenError(data, f"{self.slowest * 1000:.0f} ms of CPU")
        is_new = outcome not in self.outcomes
        if is_new:
            self.outcomes.add(outcome)
        return is_new

    def _shortest(self, data: bytes, took: float) -> float:
        """Return what an input takes at least, and the most that any took: warm, and without anybody's garbage."""
        for _ in range(TRIES):
            wind()
            began = cpu()
            self.target.check(data)
            took = min(took, cpu() - began)
        return max(self.slowest, took)

    def remember(self, data: bytes) -> None:
        """Let an input take part in the mutations to come."""
        if len(data) > LONGEST_KEPT:
            return
        if len(self.pool) < MOST_KEPT:
            self.pool.append(data)
        else:
            self.pool[self.rng.randrange(MOST_KEPT)] = data
        if self.keep and sum(1 for _ in self.corpus.iterdir()) < MOST_FILES:
            write(self.name, "found", data)

    def look(self) -> None:
        """Take a sample of memory if it is time to. The first fifth of a run may grow: it meets everything once."""
        spent = time.monotonic() - self._began
        if spent < self.seconds / 5 and self.runs < self.most / 5:
            return
        if self.growth is None:
            ahead = min(self.seconds - spent, spent * (self.most / max(self.runs, 1) - 1))
            self.growth = Growth(max(1.0, ahead / SAMPLES))
        self.growth.look(spent, own=len(self.pool) + len(self.outcomes))

    def check_growth(self) -> None:
        """Raise GrownError if there is more in memory than there should be."""
        if self.growth is not None and (fault := self.growth.fault()):
            raise GrownError(fault)

    def summary(self, finding: str = "", *, is_whole: bool = True) -> Summary:
        """Return what became of it."""
        return Summary(
            target=self.name,
            guided=self.guided,
            inputs=self.runs,
            seconds=time.monotonic() - self._began,
            outcomes=len(self.outcomes),
            slowest=self.slowest,
            objects=self.growth.objects if self.growth else 0,
            resident=self.growth.resident if self.growth else 0,
            finding=finding,
            is_whole=is_whole,
        )


def write(target: str, why: str, data: bytes) -> Path:
    """Write an input to the corpus of a target under a name that its content gives."""
    path = HERE / "corpus" / target / f"{why}-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path
