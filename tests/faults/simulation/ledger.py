"""What was sent, acknowledged, received and held, message by message, and what of it breaks a promise.

`tests.faults.ledger` counts millions of messages that all go everywhere; here each message knows where it is owed, how
it had to be acknowledged, and what excuses it.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from attrs import define, field

from mqttproxy.quarantine.model import Held

MEMORY: Final = -1  # `needed` of a route that promises nothing over a crash

_BY_UPSTREAM: Final = re.compile(r"upstream (\S+) answered")


@define(eq=False)
class Sent:
    """One message.

    Attributes:
        owed: destinations that it must reach.
        needed: of these so many must have it before the device is acknowledged; 0: being on disk is enough.
        settled: the device was answered, with success or failure.
        abandoned: the device has forgotten it: it may arrive or not.
        refused: destinations that would not have it at first, and took later ones.
        again: the device has sent it as a new message, so that nobody can know it for the same.

    """

    device: str
    topic: str
    qos: int
    number: int
    payload: bytes
    owed: tuple[str, ...]
    needed: int
    settled: bool = False
    failed: bool = False
    abandoned: bool = False
    again: bool = False
    damaged: bool = False
    received: dict[str, int] = field(factory=dict)
    held: set[str] = field(factory=set)
    refused: set[str] = field(factory=set)

    def __str__(self) -> str:
        return f"{self.payload!r} on {self.topic} at QoS {self.qos}"


class Ledger:
    """See the module. `faults` says in words what was found, as it is found.

    Attributes:
        forgetful: destinations that have lost what they knew of us, so that QoS 2 may double there.
        is_volatile: the proxy was killed: messages of `memory` routes, and of QoS 0, may be lost.

    """

    def __init__(self, tell: Callable[..., None] = lambda *_: None) -> None:
        self.tell = tell  # a line for the trace
        self.messages: dict[bytes, Sent] = {}
        self.faults: list[str] = []
        self.forgetful: set[str] = set()
        self.is_volatile = False
        self.duplicates = 0
        self._numbers: dict[tuple[str, str, int], int] = {}
        self._newest: dict[tuple[str, str, int, str], int] = {}

    def send(
        self, device: str, topic: str, qos: int, *, owed: tuple[str, ...], needed: int, form: bytes = b"%b"
    ) -> Sent:
        """Note that a message is about to be sent for the first time."""
        stream = device, topic, qos
        number = self._numbers[stream] = self._numbers.get(stream, -1) + 1
        payload = form % f"{device} {topic} {qos} {number}".encode()
        sent = self.messages[payload] = Sent(device, topic, qos, number, payload, owed, needed)
        return sent

    def settle(self, sent: Sent, *, success: bool, durable: Iterable[bytes], held: Iterable[Held]) -> None:
        """Note that the device was told; what its route says must be true at this moment."""
        if sent.settled:
            return
        sent.settled, sent.failed = True, not success
        self.tell(f"  {sent.device} was told", "success" if success else "failure", sent.payload)
        if not success or any(one.payload == sent.payload for one in held):
            return
        # After a restart nobody knows any more how many destinations had a message of QoS 2 that comes again: that it
        # is on disk must do.
        needed = 0 if self.is_volatile and sent.qos == 2 and sent.needed > 0 else sent.needed
        if needed and len(sent.received) < needed:
            self.fault(f"acknowledged with {len(sent.received)} of {sent.needed} destinations: {sent}")
        elif needed == 0 and sent.payload not in durable:
            self.fault(f"acknowledged and not on disk: {sent}")

    def receive(self, destination: str, topic: str, payload: bytes, qos: int) -> None:
        """Note an arrival, whatever it is."""
        self.tell(f"  {destination} received", payload)
        sent = self.messages.get(payload)
        if sent is None or sent.topic != topic or sent.qos != qos:
            self.fault(f"ghost or corrupted: {payload!r} on {topic} at QoS {qos} at {destination}")
            return
        if destination not in sent.owed:
            self.fault(f"at {destination}, where it does not belong: {sent}")
        count = sent.received[destination] = sent.received.get(destination, 0) + 1
        if count > 1:
            self.duplicates += 1
            is_excused = sent.again or destination in self.forgetful or (sent.needed == MEMORY and self.is_volatile)
            if qos != 1 and not is_excused:
                self.fault(f"{count} times at {destination}: {sent}")
            return
        stream = sent.device, topic, qos, destination
        newest = self._newest.get(stream, -1)
        if sent.number < newest and destination not in sent.refused:
            self.fault(f"after {newest} at {destination}: {sent}")
        self._newest[stream] = max(newest, sent.number)

    def refuse(self, destination: str, payload: bytes) -> None:
        """Note that a destination would not have it. Asked again, because its answer was lost, it may think better."""
        if payload in self.messages:
            self.messages[payload].refused.add(destination)

    def fault(self, words: str) -> None:
        self.faults.append(words)

    def hold(self, held: Iterable[Held]) -> None:
        """Note what the quarantine has."""
        for one in held:
            sent = self.messages.get(one.payload)
            if sent is None or sent.topic != one.topic:
                self.fault(f"ghost in the quarantine: {one.payload!r} on {one.topic}")
                continue
            found = _BY_UPSTREAM.search(" ".join(message for _, _, message in one.failures))
            if found is None:
                sent.held.update(sent.owed)
            else:
                sent.held.add(found[1])

    def missing(self) -> list[tuple[Sent, str]]:
        """Return what was settled and is not where it is owed."""
        return [
            (sent, destination)
            for sent in self.messages.values()
            if sent.settled and sent.qos and not (self.is_volatile and sent.needed == MEMORY)
            for destination in sent.owed
            if destination not in sent.received and destination not in sent.held
        ]

    def check(self, *, damaged: int) -> None:
        """Look at everything, after the end. `damaged`: records that the proxy has told of."""
        excused = 0
        for sent, destination in self.missing():
            if sent.damaged:
                excused += 1
            else:
                self.fault(f"lost: {sent}, at {destination}")
        if excused > damaged:
            self.fault(f"{excused} messages are missing with their records, {damaged} were told")
