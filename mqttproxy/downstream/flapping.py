"""Flapping: a client identifier that connects again and again, and is not let in for a while.

Two devices with one client identifier take the connection from each other for ever; a device that crashes on its first
message connects, dies and connects. Each round costs handshakes, and what else a CONNECT sets in motion.

Ask `admit` for a CONNECT that is otherwise welcome, before an older connection is ended for it: so only who may come in
can make a client identifier banned, and the device that is connected stays.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from mqttproxy.config.model import LimitSettings

SWEPT: Final = 2  # entries whose time is over that one question sweeps out; more than it can add


class Flapping:
    """Counts the connections of each client identifier, in windows that begin with the first of them."""

    def __init__(self, *, connects: int = 15, window: float = 60.0, ban: float = 300.0, most: int = 100_000) -> None:
        """Make it.

        Args:
            connects: that are let in within one window, 0: any number.
            window: seconds.
            ban: seconds from the connection that was one too many. What is tried meanwhile does not prolong it, or a
                device that is well again, but keeps trying, would stay out for ever.
            most: client identifiers that are remembered, and as many that are banned; the oldest are forgotten.

        """
        self._connects = connects
        self._window = window
        self._ban = ban
        self._most = most
        # Both in the order of their times, so that what is over is at the front. A plain dict would have to look past
        # all that was removed there before.
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()  # when the window began, connections since
        self._banned: OrderedDict[str, float] = OrderedDict()  # until when
        self.bans = 0
        self.forgotten = 0  # while they still meant something

    @classmethod
    def by(cls, limits: LimitSettings) -> "Flapping":
        """Make it as `[limits]` say."""
        return cls(connects=limits.flapping_connects, window=limits.flapping_window, ban=limits.flapping_ban)

    @property
    def banned(self) -> int:
        """How many client identifiers are banned; those whose ban is just over are among them for a while."""
        return len(self._banned)

    @property
    def words(self) -> str:
        """Why somebody is banned here."""
        return f"more than {self._connects} connections within {self._window:g} s"

    def now_banned(self, now: float) -> Iterator[tuple[str, float, float]]:
        """Go through who is banned: client identifier, for how many seconds still, and for how many already."""
        for client_id, until in tuple(self._banned.items()):
            if now < until:
                yield client_id, until - now, self._ban - (until - now)

    def lift(self, client_id: str) -> bool:
        """Let a client in again, and begin to count anew; returns whether it was banned."""
        return self._banned.pop(client_id, None) is not None

    def admit(self, client_id: str, now: float) -> float | None:
        """Count a connection, and decide on it.

        Args:
            client_id: whose.
            now: monotonic seconds.

        Returns:
            None: welcome. Else the seconds after which it will be.

        """
        if not self._connects:
            return None
        self._sweep(now)
        until = self._banned.get(client_id)
        if until is not None:
            if now < until:
                return until - now
            del self._banned[client_id]
        began, count = self._seen.get(client_id, (now, 0))
        if now - began >= self._window:
            began, count = now, 0
        if count >= self._connects:
            del self._seen[client_id]
            self._make_room(self._banned)
            self._banned[client_id] = now + self._ban
            self.bans += 1
            return self._ban
        if not count:
            self._seen.pop(client_id, None)  # the new window goes to the end
            self._make_room(self._seen)
        self._seen[client_id] = (began, count + 1)
        return None

    def _make_room(self, entries: OrderedDict[str, tuple[float, int]] | OrderedDict[str, float]) -> None:
        if len(entries) >= self._most:
            entries.popitem(last=False)
            self.forgotten += 1

    def _sweep(self, now: float) -> None:
        """Drop the oldest whose time is over, a few at a time."""
        for _ in range(SWEPT):
            name = next(iter(self._seen), None)
            if name is None or now - self._seen[name][0] < self._window:
                break
            del self._seen[name]
        for _ in range(SWEPT):
            name = next(iter(self._banned), None)
            if name is None or now < self._banned[name]:
                break
            del self._banned[name]
