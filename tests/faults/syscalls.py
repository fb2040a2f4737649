"""Each call to the disk fails once, or is the last: `python -m tests.faults.syscalls [--every 1] [--kind write]`.

Three phases. `serve`: a call fails while messages are acknowledged. `start`: it fails while the proxy starts on what a
`kill -9` has left. `kill`: that start, and the first one of all, are cut at the call as by `kill -9`. Afterwards: what
was acknowledged is there, once, and messages are acknowledged again within 10 seconds.
"""

import argparse
import errno
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, get_args

from attrs import define

from tests.faults.disk.failing import Kind
from tests.faults.disk.load import Absent, Away, Held, Place
from tests.faults.disk.scene import Scene, opened
from tests.waiting import PATIENCE, wait_until

PLACES: Final[dict[str, Callable[[], Place]]] = {"spool": Away, "sessions": Absent, "quarantine": Held}
ERRORS: Final = (errno.EIO, errno.ENOSPC)
BACK_WITHIN: Final = 10.0  # seconds
MESSAGES: Final = 8  # in each round
CHECK_EVERY: Final = 10  # rounds: each check is a kill, a start, and a look at everything


@define
class Figures:
    """What a sweep adds up to; that nothing was lost has been checked when there are any."""

    calls: int = 0
    acknowledged: int = 0
    slowest: float = 0.0  # seconds until messages were acknowledged again
    refused: int = 0  # starts that ended with words

    def row(self, *what: str) -> str:
        cells = [*what, str(self.calls), str(self.acknowledged), "0", f"{self.slowest:.1f} s", str(self.refused)]
        return f"| {' | '.join(cells)} |"


def sweep_service(
    scene: Scene,
    kind: Kind,
    error: int,
    numbers: Iterator[int],
    *,
    times: int = 1,
    padding: int = 2_000,
    back_within: float = BACK_WITHIN,
) -> Figures:
    """Let call after call fail while messages are acknowledged, until a round has no such call any more."""
    figures = Figures()
    sender = scene.sender(f"{kind}{error}x{times}", padding=padding)
    for number in numbers:
        scene.faults.fail(kind, error, at=number, times=times, part=scene.place.part, in_half=bool(number % 2))
        began = time.monotonic()
        sender.publish(MESSAGES, patience=back_within + PATIENCE)
        if not scene.faults.done:
            break
        figures.slowest = max(figures.slowest, time.monotonic() - began)
        figures.calls += 1
        scene.faults.heal()
        if figures.calls % CHECK_EVERY == 0:
            scene.check()
    scene.faults.heal()
    scene.check()
    assert figures.slowest < back_within
    figures.acknowledged = len(sender.acknowledged)
    return figures


def sweep_start(
    scene: Scene, kind: Kind, error: int | None, numbers: Iterator[int], *, back_within: float = BACK_WITHIN
) -> Figures:
    """Let call after call of a start fail, or be its last (error None), until a start has no such call any more."""
    figures = Figures()
    sender = scene.sender(f"{kind}{error or 'kill'}")
    for number in numbers:
        sender.publish(MESSAGES)
        scene.proxy.kill()
        if error is None:
            scene.faults.kill(kind, at=number, in_half=bool(number % 2))
        else:
            scene.faults.fail(kind, error, at=number, times=1, in_half=bool(number % 2))
        figures.refused += start_in_trouble(scene)
        hit = scene.faults.done
        scene.faults.heal()
        began = time.monotonic()
        if scene.proxy.process.poll() is not None:
            scene.launch()
        for one in scene.senders:
            one.connect(scene.proxy.port())
        sender.publish(MESSAGES)
        figures.slowest = max(figures.slowest, time.monotonic() - began)
        if not hit:
            break
        figures.calls += 1
        if figures.calls % CHECK_EVERY == 0:
            scene.check()
    scene.check()
    assert figures.slowest < back_within
    figures.acknowledged = len(sender.acknowledged)
    return figures


def start_in_trouble(scene: Scene) -> bool:
    """Start, and wait until the proxy is ready or has ended; True: it ended by itself, with words."""
    proxy = scene.launch()
    wait_until(lambda: proxy.process.poll() is not None or proxy.log("ready"), "an end or a beginning")
    assert b"Traceback" not in proxy.log_file.read_bytes(), proxy.tail()
    code = proxy.process.poll()
    assert code in (None, 1, -9), proxy.tail()
    assert code != 1 or proxy.log("cannot start"), proxy.tail()
    return code == 1


def sweep_first_start(folder: Path, make: Callable[[], Place], kind: Kind, numbers: Iterator[int]) -> Figures:
    """Cut the first start of all at call after call, each on a folder of its own."""
    figures = Figures()
    for number in numbers:
        with opened(folder / f"{kind}{number}", make(), before=lambda faults: faults.kill(kind, at=number)) as scene:  # noqa: B023 - called at once
            if not scene.faults.done:
                break
            sender = scene.sender()
            sender.publish(MESSAGES)
            scene.check()
            figures.calls += 1
            figures.acknowledged += len(sender.acknowledged)
    return figures


def counted(every: int, most: int) -> Iterator[int]:
    """Yield 1, 1 + every, …"""
    return iter(range(1, most + 1, every))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweeps that are asked for, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--every", type=int, default=1, help="only every so manieth call")
    parser.add_argument("--most", type=int, default=1_000_000, help="up to this call")
    parser.add_argument("--kind", action="append", choices=get_args(Kind))
    parser.add_argument("--phase", action="append", choices=["serve", "start", "kill"])
    parser.add_argument("--place", choices=list(PLACES), default="spool")
    parser.add_argument("--times", type=int, default=1, help="so many calls in a row fail (serve only)")
    parser.add_argument("--padding", type=int, default=2_000, help="bytes of each message (serve only)")
    given = parser.parse_args(arguments)
    print("| phase | calls | error | calls hit | acknowledged | lost | back within | starts refused |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for phase in given.phase or ["serve", "start", "kill"]:
        for kind in given.kind or (["write", "sync", "any"] if phase == "serve" else ["any"]):
            for row in rows(given, phase, kind):
                print(row, flush=True)
    return 0


def rows(given: argparse.Namespace, phase: str, kind: Kind) -> Iterator[str]:
    """Yield the rows of a phase for one kind of call."""
    make = PLACES[given.place]

    def numbers() -> Iterator[int]:
        return counted(given.every, given.most)

    with TemporaryDirectory(prefix="syscalls-") as name:
        if phase == "kill":
            with opened(Path(name) / "again", make()) as scene:
                yield sweep_start(scene, kind, None, numbers()).row("start again", kind, "kill -9")
            yield sweep_first_start(Path(name), make, kind, numbers()).row("first start", kind, "kill -9")
            return
        for error in ERRORS:
            with opened(Path(name) / str(error), make()) as scene:
                if phase == "start":
                    figures = sweep_start(scene, kind, error, numbers())
                else:
                    how = {"times": given.times, "padding": given.padding}
                    figures = sweep_service(scene, kind, error, numbers(), **how)
                yield figures.row(phase, kind, errno.errorcode[error])


if __name__ == "__main__":
    sys.exit(main())
