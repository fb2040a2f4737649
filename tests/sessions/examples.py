"""Sessions, clocks and devices for the tests of this room."""

import shutil
from collections import Counter
from pathlib import Path

from attrs import evolve

from mqttproxy.config.model import LimitSettings
from mqttproxy.database import make_store
from mqttproxy.journal import Journal
from mqttproxy.mqtt.packets import Message
from mqttproxy.sessions import Notes, Session, Sessions, SubscriptionTable
from tests.quarantine.examples import Disk


class Clock:
    """Both clocks: monotonic, and the wall's."""

    def __init__(self) -> None:
        self.time = 100.0
        self.ahead = 1_000_000.0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time + self.ahead


class Device:
    """A connected device that takes what it is given when it is told to."""

    def __init__(self) -> None:
        self.pumps = 0
        self.flushes = 0

    def pump(self) -> None:
        self.pumps += 1

    def flush(self) -> None:
        self.flushes += 1


class House:
    """Sessions with their table and, if there is a folder, their disk."""

    def __init__(self, directory: Path | None = None, *, disk: Disk | None = None, **limits: object) -> None:
        self.clock = Clock()
        self.directory = directory
        self.table = SubscriptionTable()
        self.dropped: Counter[str] = Counter()
        self.discarded: list[tuple[str, tuple[str, ...]]] = []
        self.store = (
            None if directory is None else make_store(directory, connect=(disk or Disk()).connect, wall=self.clock.wall)
        )
        self.journal = Journal(self.store, wall=self.clock.wall, now=self.clock.now)
        self.notes = Notes(self.journal)
        if self.store is not None:
            self.journal._loaded = self.store.load()
        self.sessions = Sessions(
            table=self.table,
            journal=self.journal,
            limits=evolve(LimitSettings(), **limits),  # type: ignore[arg-type]
            now=self.clock.now,
            wall=self.clock.wall,
            dropped=lambda reason, count: self.dropped.update({reason: count}),
        )
        self.sessions.on_discard = lambda session, filters: self.discarded.append((session.client_id, filters))

    def commit(self) -> None:
        """Do what the journal's task does."""
        assert self.store is not None
        while not self.journal.is_clear:
            self.store.apply(self.journal._begin())
            self.journal._finish()

    def killed(self, folder: Path, *, later: float = 0.0, disk: Disk | None = None) -> "House":
        """Return what comes up after a `kill -9` of this one: from a copy of its files, which nobody has closed."""
        assert self.directory is not None
        shutil.copytree(self.directory, folder)
        house = House(folder, disk=disk)
        house.clock.ahead = self.clock.wall() + later - house.clock.time
        house.sessions.restore()
        return house

    def close(self) -> None:
        """Close the database."""
        if self.store is not None:
            self.store.close()

    def open(
        self, client_id: str = "a", *, clean: bool = False, expiry: float = 60.0, owner: str | None = None
    ) -> Session:
        return self.sessions.open(client_id, clean_start=clean, expiry=expiry, owner=owner)[0]

    def away(self, client_id: str = "a", expiry: float = 60.0, owner: str | None = None) -> Session:
        """Return a session whose connection has ended."""
        session = self.open(client_id, expiry=expiry, owner=owner)
        self.sessions.close(session)
        return session


def message(number: int, qos: int = 1, size: int = 1) -> Message:
    return Message(f"t/{number}", b"x" * size, qos)


def topics(session: Session, quota: int = 100, now: float = 100.0) -> list[str]:
    return [taken.topic for taken, _ in session.take(quota, 1 << 20, now)]


def send(session: Session, quota: int = 100) -> list[int]:
    """Do what a connection does with what may be sent; return the packet identifiers."""
    sent = []
    for message, token in session.take(quota, 1 << 20, 100.0):
        if message.qos:
            sent.append(session.state.allocate(()))
            session.state.outgoing[sent[-1]] = (message, token)
    session.sent()
    return sent


def settle(session: Session, packet_id: int) -> None:
    """Do what a connection does with PUBACK or PUBCOMP."""
    _, token = session.state.outgoing.pop(packet_id)
    session.state.released.discard(packet_id)
    session.settled([token])
