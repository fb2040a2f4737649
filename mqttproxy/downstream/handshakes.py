"""Who is between accept and CONNECT: whose turn it is, and who must go so that others can come in.

A handshake takes memory and time, so `limits.handshakes` are on at once; what it takes is a place. Nobody needs one who
has not said a word. Who finds none waits in line, accepted: after a restart all devices come at once, and closing the
door on them would make each come again, at a moment of its own choosing and at the price of one more handshake.

Slow connections must not keep the others out, however many they are. So while somebody waits, a place is lost by
whoever lets us wait: after `limits.handshake_patience`, counted from its place and again from the end of its handshake
of TLS or WebSocket; or at once if who needs the place is of a better rank, see `Rank`. The better rank is also first in
line. A peer that waits for us stays.

Whoever is sent away comes again, and costs one more handshake. So only as many are as came lately, and a handful more:
ten thousand slow ones that wait for each other's places are left alone.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from itertools import chain, islice
from math import inf
from typing import Final

import trio
from attrs import Factory, define, field

from mqttproxy.config.model import LimitSettings
from mqttproxy.downstream.unwelcome import NotWelcome
from mqttproxy.telemetry.logs import RateLimited
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.transport.addresses import counted_as
from mqttproxy.transport.tcp import TcpStream

A_FEW: Final = 8  # connections of one address that have said something and are not in yet
HASTE: Final = 0.4  # of `limits.handshake_patience`: what is left of it while a line is LONG
LONG: Final = 0.5  # seconds that the first of a line has waited for a place: more come than there will be places for
BUSY: Final = 3.0  # the same while it is the processor that is short, and devices have not given up yet
REMEMBERED: Final = 100_000  # addresses of each sort; those longest ago are forgotten
SLOW: Final = 60.0  # seconds that an address is remembered for having been too slow
AT_ONCE: Final = 8  # begin in one turn of the loop, so that others have theirs: some ms
LOOK: Final = 0.05  # seconds between two looks for those who let us wait
SEEN: Final = 32  # looked at for one who comes
CHURN: Final = 4  # places taken at a look, though nobody has come
LATELY: Final = 0.9  # of those who came and for whom no place was taken, so many count at the next look
ROOM: Final = 10  # of those who say nothing, one in so many goes when the process has no room for more
QUIET: Final = 1.0  # seconds without a word after which one of them may go


class Rank(IntEnum):
    """Whose turn it is first."""

    KNOWN = 0  # a device has come in from its address before
    STRANGER = 1
    CROWD = 2  # its address has A_FEW already, known or not; or is no known one, and has been too slow lately


@define(eq=False)
class Handshake:
    """A connection between accept and CONNECT.

    Attributes:
        scope: has its deadline, and ends it.
        since: monotonic seconds of its accept; later of its standing in line, of its getting a place, and of the last
            step that it has done there.
        host: its address; empty: it has not said a word yet.
        rank: what it was when it came.
        is_sent_away: it had to go for others.

    """

    stream: TcpStream
    scope: trio.CancelScope
    since: float
    host: str = ""
    rank: Rank = Rank.STRANGER
    is_sent_away: bool = False
    turn: trio.Event = Factory(trio.Event)

    def lets_wait(self, since: float) -> bool:
        """Tell whether it has been here since then, and it is its peer who lets us wait."""
        return self.since <= since and not self.is_sent_away and self.stream.is_silent


_InOrder = OrderedDict[Handshake, None]


def _by_rank() -> tuple[_InOrder, ...]:
    return tuple(_InOrder() for _ in Rank)


def _remember(addresses: OrderedDict[str, float], address: str) -> None:
    addresses[address] = trio.current_time()
    addresses.move_to_end(address)
    if len(addresses) > REMEMBERED:
        addresses.popitem(last=False)


@define(eq=False)
class Handshakes:
    """All of them."""

    limits: LimitSettings
    metrics: Metrics
    alerts: RateLimited
    _here: dict[Handshake, None] = field(init=False, factory=dict)
    _of_host: Counter[str] = field(init=False, factory=Counter)  # that have said something
    _known: OrderedDict[str, float] = field(init=False, factory=OrderedDict)  # since when, in monotonic seconds
    _slow: OrderedDict[str, float] = field(init=False, factory=OrderedDict)
    # Those with a place and those in line, by rank; the oldest first.
    _holders: tuple[_InOrder, ...] = field(init=False, factory=_by_rank)
    _lines: tuple[_InOrder, ...] = field(init=False, factory=_by_rank)
    _came: float = field(init=False, default=0.0)  # lately, into the line and not of a crowd
    _begun: int = field(init=False, default=0)  # in this turn
    _lacks_places: bool = field(init=False, default=False)  # at the last look; else it is the processor that is short
    _no_room_until: float = field(init=False, default=0.0)  # monotonic seconds: it was in vain to look for some
    _news: trio.lowlevel.ParkingLot = field(init=False, factory=trio.lowlevel.ParkingLot)

    @contextmanager
    def begun(self, stream: TcpStream) -> Iterator[Handshake]:
        """Go through a handshake in here, within `limits.connect_deadline`; then nothing is raised, as by `move_on`."""
        now = trio.current_time()
        one = Handshake(stream, trio.CancelScope(deadline=now + self.limits.connect_deadline), now)
        self._here[one] = None
        self.metrics.handshakes += 1
        try:
            with one.scope:
                yield one
        finally:
            self.metrics.handshakes -= 1
            del self._here[one]
            if one.host and one.scope.cancelled_caught:
                _remember(self._slow, one.host)
            if one.host:
                self._of_host[one.host] -= 1
                if not self._of_host[one.host]:
                    del self._of_host[one.host]
            if self._holders[one.rank].pop(one, self) is None:
                self._fill()

    async def take_place(self, one: Handshake) -> None:
        """Wait for its first word, then until it is its turn, which is not held against it. It is known who it is.

        Raises:
            NotWelcome: it has hung up.
            TransportError: the connection broke.

        """
        if not await one.stream.wait_first():
            raise NotWelcome("closed_before_connect")
        one.host = counted_as(one.stream.peer.host)
        one.rank = self._rank(one.host)
        self._of_host[one.host] += 1
        if self._has_place or (self._is_full and self._make_way(one.rank)):
            self._hold(one)
        else:
            await self._wait(one)
            if one.stream.has_hung_up:
                raise NotWelcome("closed_before_connect")

    def step_done(self, one: Handshake) -> None:
        """Be as patient with it again: it has done its part of a handshake."""
        one.since = trio.current_time()
        holders = self._holders[one.rank]
        if one in holders:
            holders.move_to_end(one)

    def came_in(self, one: Handshake) -> None:
        """Remember its address."""
        _remember(self._known, one.host)

    def make_room(self) -> bool:
        """Send some of those away who have said nothing for long; False: there are none.

        For when the process can have no more connections: one tenth of them goes, the oldest, so that looking for them
        again for each newcomer costs nothing.
        """
        if (now := trio.current_time()) < self._no_room_until:
            return False
        most = 1 + len(self._here) // ROOM
        found = [*islice((one for one in self._here if one.lets_wait(now - QUIET)), most)]
        for one in found:
            self._send_away(one)
        if not found:
            self._no_room_until = now + LOOK
        self._fill()
        return bool(found)

    async def run(self) -> None:
        """Have those in line come in, a few in each turn of the loop, until cancelled.

        Places for them are taken from those who let us wait.
        """
        look = 0.0
        while True:
            if self._begun:
                await trio.lowlevel.checkpoint()  # so the others had their turn
            elif self.has_line:
                with trio.move_on_at(look):
                    await self._news.park()
            else:
                await self._news.park()
            self._begun = 0
            if self.has_line and (now := trio.current_time()) >= look:
                look = now + LOOK
                self._look()
            self._fill()

    @property
    def has_line(self) -> bool:
        """Whether somebody waits for a place."""
        return any(self._lines)

    @property
    def _is_full(self) -> bool:
        return sum(map(len, self._holders)) >= self.limits.handshakes

    @property
    def _has_place(self) -> bool:
        return self._begun < AT_ONCE and not self._is_full

    def _rank(self, host: str) -> Rank:
        if self._of_host[host] >= A_FEW:
            return Rank.CROWD
        if host in self._known:
            return Rank.KNOWN
        was_slow = trio.current_time() - self._slow.get(host, -inf) < SLOW
        return Rank.CROWD if was_slow else Rank.STRANGER

    async def _wait(self, one: Handshake) -> None:
        metrics, line = self.metrics, self._lines[one.rank]
        self._came += one.rank < Rank.CROWD
        if self._is_full:
            metrics.handshake_waits += 1
            self.alerts.warning("handshakes_wait", "handshakes_wait", handshakes=metrics.handshakes)
        one.since = trio.current_time()
        left, one.scope.deadline = one.scope.deadline - one.since, inf
        line[one] = None
        metrics.handshakes_waiting += 1
        self._news.unpark_all()
        try:
            await one.turn.wait()
        finally:
            metrics.handshakes_waiting -= 1
            line.pop(one, None)
        one.scope.deadline = trio.current_time() + left

    def _hold(self, one: Handshake) -> None:
        one.since = trio.current_time()
        self._holders[one.rank][one] = None
        self._begun += 1
        self._news.unpark_all()

    def _fill(self) -> None:
        """Give away the places that are free, to the best rank first; the next turn goes on where this one's ends."""
        for line in self._lines:
            while line and self._has_place:
                # In a long line it is the newest's turn: else everybody would wait until he gives up. While only the
                # processor is short, a line is no longer than its delay: in order, all wait a little and none for ever.
                one, _ = line.popitem(last=self._is_long(line))
                self._hold(one)
                one.turn.set()

    def _is_long(self, line: _InOrder) -> bool:
        longest = LONG if self._lacks_places else BUSY
        return bool(line) and next(iter(line)).since < trio.current_time() - longest

    def _make_way(self, rank: Rank) -> bool:
        """Take the place of one of a worse rank."""
        now = trio.current_time()
        for holders in self._holders[:rank:-1]:
            for one in islice(holders, SEEN):
                if one.lets_wait(now):
                    self._send_away(one)
                    return True
        return False

    def _look(self) -> None:
        """Take places for those in line, once all are taken."""
        self._lacks_places = self._is_full
        if not self._lacks_places:
            return
        waiting = sum(map(len, self._lines))
        patience = self.limits.handshake_patience * (HASTE if any(map(self._is_long, self._lines)) else 1.0)
        since = trio.current_time() - patience
        slow = (one for one in chain.from_iterable(reversed(self._holders)) if one.lets_wait(since))
        found = [*islice(slow, min(waiting, int(self._came) + CHURN))]
        for one in found:
            self._send_away(one)
        self._came = max(0.0, self._came - len(found)) * LATELY

    def _send_away(self, one: Handshake) -> None:
        one.is_sent_away = True
        one.scope.cancel()
        self._holders[one.rank].pop(one, None)
