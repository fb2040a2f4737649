"""Where a message goes, and where subscriptions to its topic are served from.

The first route in file order whose filter matches applies. `$SYS/#` and `$proxy/#` are the proxy's own: always local,
whatever the routes say. Upstreams that are not enabled are skipped: a route of which none is left is as good as none,
and no later route steps in for it (a catch-all must not get what was meant for one broker only).
"""

from typing import Final, Literal

from attrs import frozen

from mqttproxy.config.model import LOCAL, Ack, ProxyConfig, RouteSettings
from mqttproxy.mqtt.topics import FilterTree, overlaps, split_shared

OWN_TOPICS: Final = ("$SYS/#", "$proxy/#")
CACHED_TOPICS: Final = 10_000  # topics whose route is remembered; the oldest makes room


@frozen
class Route:
    """Where the messages of some topics go; `destinations` are names of upstreams or `local`, without repetition."""

    destinations: tuple[str, ...]
    ack: Ack = "spool"
    when_full: Literal["wait", "drop_oldest", "drop_newest"] = "wait"
    home: str = LOCAL
    patience: float | None = None  # seconds after which being on disk is enough, None: it never is


@frozen
class _Entry:
    """One route of the file, as it stands with the upstreams that are enabled; `route` None: nothing is left of it."""

    topics: tuple[str, ...]
    route: Route | None
    home: str
    max_age: float | None = None


LOCAL_ROUTE: Final = Route((LOCAL,))


class RouteTable:
    """The routes of one generation. Immutable but for its cache; a reload makes a new one."""

    def __init__(self, config: ProxyConfig) -> None:
        enabled = tuple(upstream.name for upstream in config.upstreams if upstream.enabled)
        self._entries = (_Entry(OWN_TOPICS, LOCAL_ROUTE, LOCAL), *_entries(config.routes, enabled))
        self._tree: FilterTree[int] = FilterTree()
        for number, entry in enumerate(self._entries):
            for topic_filter in entry.topics:
                self._tree.add(topic_filter, number)
        # Topics without a route: the caller decides (`default.unrouted`) when there are upstreams; else they are local.
        self._unrouted = _Entry((), None, enabled[0]) if enabled else _Entry((), LOCAL_ROUTE, LOCAL)
        self._cache: dict[str, _Entry] = {}

    def route_for(self, topic: str) -> Route | None:
        """Return where a message on this topic goes; None: nowhere, `default.unrouted` says what that means."""
        found = self._cache.get(topic)
        return (found or self._find(topic)).route

    def home_of(self, topic: str) -> str:
        """Return the one place that serves subscriptions to this topic: `local` or the name of an upstream."""
        found = self._cache.get(topic)
        return (found or self._find(topic)).home

    def max_age_of(self, topic: str) -> float | None:
        """Return after how many seconds a message from an upstream is too old for devices; None: never."""
        found = self._cache.get(topic)
        return (found or self._find(topic)).max_age

    def homes_for_filter(self, topic_filter: str) -> set[str]:
        """Return every place that serves a topic which this filter matches.

        What an upstream sends for a topic whose home is elsewhere must not be carried down: ask `home_of`.
        """
        _, topic_filter = split_shared(topic_filter)
        homes: set[str] = set()
        for entry in self._entries:
            for theirs in entry.topics:
                if overlaps(theirs, topic_filter):
                    homes.add(entry.home)
                    if covers(theirs, topic_filter):
                        return homes
        homes.add(self._unrouted.home)
        return homes

    def _find(self, topic: str) -> _Entry:
        numbers = self._tree.match(topic)
        found = self._entries[min(numbers)] if numbers else self._unrouted
        if len(self._cache) >= CACHED_TOPICS:
            del self._cache[next(iter(self._cache))]
        self._cache[topic] = found
        return found


def covers(wide: str, narrow: str) -> bool:
    """Say whether `wide` matches every topic that `narrow` matches."""
    if narrow[0] == "$" and wide[0] in "+#":
        return False
    wide_levels = ["#"] if wide == "+/#" else wide.split("/")  # every topic has a first level
    narrow_levels = narrow.split("/")
    for index, level in enumerate(wide_levels):
        if level == "#":
            return True
        if index >= len(narrow_levels):
            return False
        theirs = narrow_levels[index]
        if theirs == "#" or (level not in ("+", theirs)):
            return False
    return len(wide_levels) == len(narrow_levels)


def _entries(routes: tuple[RouteSettings, ...], enabled: tuple[str, ...]) -> tuple[_Entry, ...]:
    if not routes:
        route = Route(enabled, home=enabled[0]) if enabled else LOCAL_ROUTE
        return (_Entry(("#",), route, route.home),)
    return tuple(_entry(route, enabled) for route in routes)


def _entry(settings: RouteSettings, enabled: tuple[str, ...]) -> _Entry:
    there = (*enabled, LOCAL)
    destinations = tuple(name for name in dict.fromkeys(settings.to) if name in there)
    home = settings.home
    if home not in there:
        home = _default_home(destinations, enabled)
    patience = settings.ack_timeout if settings.on_ack_timeout == "accept" else None
    route = Route(destinations, settings.ack, settings.when_full, home, patience) if destinations else None
    return _Entry(settings.topics, route, home, settings.max_age)


def _default_home(destinations: tuple[str, ...], enabled: tuple[str, ...]) -> str:
    if not destinations:
        return enabled[0] if enabled else LOCAL
    return next((name for name in destinations if name != LOCAL), LOCAL)
