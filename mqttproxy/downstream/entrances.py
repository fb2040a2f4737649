"""Which listeners a door shall have from now on: worked out and opened before anything is closed.

A socket is kept while its address stays, whatever else changes: nobody who comes at that moment is turned away. Who is
connected stays as long as the settings that let him in do: a new certificate or path of the WebSocket disturbs nobody,
anything else sends the devices of that listener away, so that they come in by the new settings or not at all.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio
from attrs import Factory, define, evolve, frozen

from mqttproxy.config.model import ListenerSettings
from mqttproxy.transport.listen import Listener, Terms, split_address
from mqttproxy.transport.stream import TransportError

if TYPE_CHECKING:
    from mqttproxy.downstream.device import Device

SECURE: Final = frozenset({"tls", "wss"})


class CannotOpenError(TransportError):
    """A listener cannot be opened. `position` among the settings, `key` of the setting that is to blame."""

    def __init__(self, position: int, key: str, words: str) -> None:
        super().__init__(words)
        self.position, self.key = position, key


@define(eq=False)
class Entrance:
    """A listener under one set of settings, and the devices that came in under them."""

    listener: Listener
    settings: ListenerSettings
    accepting: trio.CancelScope = Factory(trio.CancelScope)
    devices: "set[Device]" = Factory(set)
    is_closed: bool = False  # nobody may stay


@frozen
class Way:
    """What becomes of one `[[listeners]]`: opened, kept, or kept with other settings. Nothing has changed yet."""

    settings: ListenerSettings
    entrance: Entrance  # that it has now
    is_new: bool = False
    terms: Terms | None = None  # to be used from now on
    sends_away: bool = False  # those who came in by the old settings


@frozen
class ListenerChanges:
    """Names of what a reload did. `changed`: devices were sent away; `renewed`: they were not."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()


@frozen
class Ways:
    """All listeners from now on, and those that go. Either `Door.use` takes them, or `discard` closes what is new."""

    ways: tuple[Way, ...]
    gone: tuple[Entrance, ...]

    def discard(self) -> None:
        """Close what was opened for it."""
        for way in self.ways:
            if way.is_new:
                way.entrance.listener.close()

    def changes(self) -> ListenerChanges:
        """Tell what it does."""
        kept = [way for way in self.ways if not way.is_new and way.settings != way.entrance.settings]
        return ListenerChanges(
            added=tuple(way.settings.name for way in self.ways if way.is_new),
            removed=tuple(entrance.settings.name for entrance in self.gone),
            changed=tuple(way.settings.name for way in kept if way.sends_away),
            renewed=tuple(way.settings.name for way in kept if not way.sends_away),
        )


def lets_stay(old: ListenerSettings, new: ListenerSettings) -> bool:
    """Tell whether who came in by the old settings may stay under the new ones."""
    return evolve(old, certificate=new.certificate, private_key=new.private_key, path=new.path) == new


def pair(entrances: Sequence[Entrance], wanted: Sequence[ListenerSettings]) -> list[Entrance | None]:
    """Return for each that is wanted the entrance whose socket it takes over; None: it needs a new one."""
    left = list(entrances)
    found: list[Entrance | None] = [None] * len(wanted)

    def take(position: int, fits: "Sequence[Entrance]") -> None:
        if found[position] is None and fits:
            found[position] = fits[0]
            left.remove(fits[0])

    for position, settings in enumerate(wanted):
        take(position, [one for one in left if _place(one.settings) == _place(settings) and _named(one, settings)])
    for position, settings in enumerate(wanted):
        if split_address(settings.bind)[1]:  # port 0 is another one for each
            take(position, [one for one in left if _place(one.settings) == _place(settings)])
    return found


def _place(settings: ListenerSettings) -> str:
    return settings.bind


def _named(entrance: Entrance, settings: ListenerSettings) -> bool:
    return entrance.settings.name == settings.name


def in_the_way(entrances: Sequence[Entrance], settings: ListenerSettings) -> str:
    """Say which listener that is still open may hold an address; empty: none."""
    port = split_address(settings.bind)[1]
    for entrance in entrances:
        if port and split_address(entrance.settings.bind)[1] == port:
            return (
                f"; listener {entrance.settings.name!r} has {entrance.settings.bind} until the new one is open: "
                "take another port, or restart"
            )
    return ""
