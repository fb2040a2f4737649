"""What the load felt, phase by phase: delays of acknowledgements and arrivals, memory and processor time."""

import os
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.faults.ledger import Ledger, Stream, _Track

TICKS: Final = os.sysconf("SC_CLK_TCK")


@frozen(kw_only=True)
class Phase:
    """What was measured in one stretch of a run. Times in seconds, memory in bytes.

    Attributes:
        rate: acknowledged messages a second.
        acknowledged: p50 and p99 from a message's PUBLISH to its PUBACK or PUBREC.
        arrived: the same to its arrival at a subscriber of an upstream that stays up.
        memory: most resident memory of the proxy.
        late: most messages that were due and could not be published yet.
        processor: seconds of processor time a second, of the proxy and of devices, subscribers and ledger.
        machine: load average of the last minute, at the end.

    """

    name: str
    seconds: float
    rate: float
    acknowledged: tuple[float, float]
    arrived: tuple[float, float]
    memory: int
    late: int
    processor: tuple[float, float]
    machine: float


class Clocked(Ledger):
    """A ledger that notes how long things take, and where messages come twice.

    Attributes:
        watched: the destination whose arrivals are timed.
        arrived: arrivals by destination, all of them.
        twice: arrivals after the first, by destination and QoS.

    """

    def __init__(self, destinations: Sequence[str]) -> None:
        super().__init__(destinations)
        self.watched: Final = self.destinations[-1]
        self.arrived: Final[Counter[str]] = Counter()
        self.twice: Final[Counter[tuple[str, int]]] = Counter()
        self._unanswered: Final[dict[bytes, float]] = {}
        self._under_way: Final[dict[bytes, float]] = {}
        self._answers = array("d")
        self._arrivals = array("d")

    def take_times(self) -> tuple["array[float]", "array[float]"]:
        """Return the delays of acknowledgements and of arrivals since the last call."""
        taken = self._answers, self._arrivals
        self._answers, self._arrivals = array("d"), array("d")
        return taken

    def send(self, stream: Stream) -> bytes:
        payload = super().send(stream)
        self._unanswered[payload] = self._under_way[payload] = time.perf_counter()
        return payload

    def acknowledge(self, payload: bytes) -> None:
        super().acknowledge(payload)
        if (sent := self._unanswered.pop(payload, None)) is not None:
            self._answers.append(time.perf_counter() - sent)

    def receive(self, destination: str, topic: str, payload: bytes) -> None:
        super().receive(destination, topic, payload)
        self.arrived[destination] += 1
        if destination == self.watched and (sent := self._under_way.pop(payload, None)) is not None:
            self._arrivals.append(time.perf_counter() - sent)

    def _repeat(self, track: _Track, number: int, place: int) -> None:
        super()._repeat(track, number, place)
        self.twice[self.destinations[place], track.stream.qos] += 1


def percentiles(times: "array[float]") -> tuple[float, float]:
    """Return p50 and p99; zeros of nothing."""
    if not times:
        return 0.0, 0.0
    ordered = sorted(times)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


def resident(process: int) -> int:
    """Return its resident memory (VmRSS) in bytes; 0: it has ended."""
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmRSS:")), 0)


def processor_time(process: int) -> float:
    """Return the seconds of processor time it has used; 0: it has ended."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return 0.0
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS
