"""The oracle of every fault: what was sent, acknowledged, refused, received and held, and what that adds up to.

    ledger = Ledger(["a", "b"])
    payload = ledger.send(Stream("pump", "plant/pump", 1))   # and publish it
    ledger.acknowledge(payload)                              # PUBACK, or the first PUBREC
    ledger.receive("a", "plant/pump", payload)               # of a subscriber at broker "a"
    ledger.report().check()

Each payload carries device, topic, QoS, number and a checksum, so whoever receives one knows what it should be. An
entry costs a few bytes and about a microsecond: runs of millions of messages stay in memory.
"""

from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple
from zlib import crc32

from attrs import define, field, frozen

_MANY: Final = 255  # arrivals of one message at one destination are counted up to here
_KEPT: Final = 5  # examples of each fault, for a person


class Stream(NamedTuple):
    """Messages that must stay in order: of one device, on one topic, at one QoS. Names without spaces."""

    device: str
    topic: str
    qos: int


@define(eq=False)
class _Track:
    """What is known of one stream, by number from 0."""

    stream: Stream
    prefix: bytes
    acknowledged: bytearray = field(factory=bytearray)  # 1: must arrive; its length is how many were sent
    ended: bytearray = field(factory=bytearray)  # 1: refused or held, need not arrive
    arrivals: list[bytearray] = field(factory=list)  # for each destination, how often
    # Before which incident, the first being 0.
    sent: "array[int]" = field(factory=lambda: array("H"))
    told: "array[int]" = field(factory=lambda: array("H"))  # that it was acknowledged
    came: "list[array[int]]" = field(factory=list)  # for each destination, the first time
    newest: list[int] = field(factory=list)  # for each destination, the highest number so far


@frozen(kw_only=True)
class Report:
    """What the ledger adds up to. Counts are over all destinations: a message lost at two is two.

    Attributes:
        lost: acknowledged, and neither received at a destination nor refused or held.
        duplicated: by QoS, arrivals after the first.
        worst: by QoS, the most duplicates that one incident is to blame for: the one at which the message was in
            flight. That is the first after it was sent if it was not acknowledged by then, for the device sends it
            again; otherwise the first after it had arrived. When the second comes says little: a destination may lag.
        inversions: first arrivals with a lower number than one that came before, in the same stream.
        ghosts: messages that were never sent.
        corrupted: payloads whose checksum is wrong, and those on a topic that is not theirs.
        examples: some of each fault in words.

    """

    sent: int
    acknowledged: int
    refused: int
    held: int
    received: dict[str, int]
    lost: int
    duplicated: dict[int, int]
    worst: dict[int, int]
    inversions: int
    ghosts: int
    corrupted: int
    examples: tuple[str, ...]

    def check(self, *, repeats: Sequence[int] = ()) -> None:
        """Fail if anything is wrong; duplicates are, unless their QoS is in `repeats`."""
        faults = {"lost": self.lost, "inversions": self.inversions, "ghosts": self.ghosts, "corrupted": self.corrupted}
        faults |= {f"QoS {qos} twice": count for qos, count in self.duplicated.items() if qos not in repeats}
        assert not any(faults.values()), f"{faults}: {'; '.join(self.examples)}"


class Ledger:
    """Entries of one run. All from one thread, or from several that hold a lock.

    Attributes:
        destinations: where each message must arrive.
        missing: of each destination, how many acknowledged messages have not arrived; 0 everywhere: all is drained.

    """

    def __init__(self, destinations: Sequence[str]) -> None:
        self.destinations = list(destinations)
        self.missing = [0] * len(self.destinations)
        self._places = {name: place for place, name in enumerate(self.destinations)}
        self._tracks: dict[bytes, _Track] = {}
        self._refused = self._held = 0
        self._inversions = self._ghosts = self._corrupted = 0
        self._duplicated = [0, 0, 0]
        self._incidents = 0
        self._blamed = [[0, 0, 0]]  # duplicates by QoS, for each incident
        self._examples: dict[str, list[str]] = {}

    # What devices know.

    def send(self, stream: Stream) -> bytes:
        """Note that the next message of a stream is about to be sent; returns its payload."""
        prefix = f"{stream.device} {stream.topic} {stream.qos}".encode()
        track = self._tracks.get(prefix)
        if track is None:
            count = len(self.destinations)
            track = _Track(
                stream,
                prefix,
                arrivals=[bytearray() for _ in range(count)],
                newest=[-1] * count,
                came=[array("H") for _ in range(count)],
            )
            self._tracks[prefix] = track
        body = b"%b %d" % (prefix, len(track.acknowledged))
        for counts in (track.acknowledged, track.ended, *track.arrivals):
            counts.append(0)
        for incidents in (track.sent, track.told, *track.came):
            incidents.append(self._incidents)
        return b"%b %08x" % (body, crc32(body))

    def acknowledge(self, payload: bytes) -> None:
        """Note that the device was told of success: PUBACK, or the first PUBREC. Again changes nothing."""
        track, number = self._sent(payload)
        if track.acknowledged[number]:
            return
        track.acknowledged[number] = 1
        track.told[number] = self._incidents
        if not track.ended[number]:
            for place, counts in enumerate(track.arrivals):
                self.missing[place] += not counts[number]

    def refuse(self, payload: bytes) -> None:
        """Note that the device was told of failure."""
        self._refused += self._end(payload)

    def hold(self, payload: bytes) -> None:
        """Note that it is in the quarantine."""
        self._held += self._end(payload)

    # What subscribers know.

    def receive(self, destination: str, topic: str, payload: bytes) -> None:
        """Note an arrival, whatever it is."""
        place = self._places[destination]
        found = self._find(payload)
        if found is None or found[0].stream.topic != topic:
            self._corrupted += 1
            self._tell("corrupted", f"{payload[:80]!r} on {topic} at {destination}")
            return
        track, number = found
        if not 0 <= number < len(track.acknowledged):
            self._ghosts += 1
            self._tell("never sent", f"{payload[:80]!r} at {destination}")
            return
        counts = track.arrivals[place]
        if counts[number]:
            self._repeat(track, number, place)
            counts[number] += counts[number] < _MANY
            return
        counts[number] = 1
        track.came[place][number] = self._incidents
        self.missing[place] -= track.acknowledged[number] and not track.ended[number]
        if number < track.newest[place]:
            self._inversions += 1
            self._tell("out of order", f"{payload!r} after {track.newest[place]} at {destination}")
        else:
            track.newest[place] = number

    def incident(self) -> None:
        """Note that a fault begins: what is in flight now may come twice because of it. At most 65,535 of them."""
        self._incidents += 1
        self._blamed.append([0, 0, 0])

    # What it adds up to.

    def report(self) -> Report:
        """Add up. To be called when everything that is on its way has had time to arrive."""
        tracks = self._tracks.values()
        lost = [0] * len(self.destinations)
        for place, name in enumerate(self.destinations):
            for track in tracks:
                lost[place] += self._count_lost(track, place, name)
        assert lost == self.missing, f"the ledger's own books differ: {lost} {self.missing}"
        return Report(
            sent=sum(len(track.acknowledged) for track in tracks),
            acknowledged=sum(track.acknowledged.count(1) for track in tracks),
            refused=self._refused,
            held=self._held,
            received={
                name: sum(len(track.arrivals[place]) - track.arrivals[place].count(0) for track in tracks)
                for place, name in enumerate(self.destinations)
            },
            lost=sum(lost),
            duplicated={qos: self._duplicated[qos] for qos in (1, 2)},
            worst={qos: max(blamed[qos] for blamed in self._blamed) for qos in (1, 2)},
            inversions=self._inversions,
            ghosts=self._ghosts,
            corrupted=self._corrupted,
            examples=tuple(example for examples in self._examples.values() for example in examples),
        )

    def _count_lost(self, track: _Track, place: int, name: str) -> int:
        lost = 0
        for number, arrived in enumerate(track.arrivals[place]):
            if not arrived and track.acknowledged[number] and not track.ended[number]:
                lost += 1
                self._tell("lost", f"{track.prefix.decode()} {number} at {name}")
        return lost

    def _end(self, payload: bytes) -> bool:
        track, number = self._sent(payload)
        if track.ended[number]:
            return False
        track.ended[number] = 1
        if track.acknowledged[number]:
            for place, counts in enumerate(track.arrivals):
                self.missing[place] -= not counts[number]
        return True

    def _repeat(self, track: _Track, number: int, place: int) -> None:
        qos = track.stream.qos
        self._duplicated[qos] += 1
        sent = track.sent[number]
        sent_again = not track.acknowledged[number] or track.told[number] != sent
        self._blamed[sent if sent_again else track.came[place][number]][qos] += 1
        self._tell(f"QoS {qos} twice", f"{track.prefix.decode()} {number} at {self.destinations[place]}")

    def _sent(self, payload: bytes) -> tuple[_Track, int]:
        found = self._find(payload)
        assert found is not None, f"not of this ledger: {payload!r}"
        return found

    def _find(self, payload: bytes) -> tuple[_Track, int] | None:
        """Return stream and number. A stream that is not known has a track of its own, with nothing sent."""
        body, _, checksum = payload.rpartition(b" ")
        if checksum != b"%08x" % crc32(body):
            return None
        prefix, _, number = body.rpartition(b" ")
        track = self._tracks.get(prefix)
        if track is None:
            try:
                device, topic, qos = prefix.decode().split(" ")
                track = _Track(Stream(device, topic, int(qos)), prefix)
            except ValueError:
                return None
        return track, int(number)

    def _tell(self, fault: str, words: str) -> None:
        examples = self._examples.setdefault(fault, [])
        if len(examples) < _KEPT:
            examples.append(f"{fault}: {words}")
