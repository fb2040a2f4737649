"""Who would feel a change: counted in the process that runs, before anything is done."""

from typing import Any, Final

import trio

from mqttproxy.config.model import ListenerSettings, ProxyConfig
from mqttproxy.downstream.entrances import lets_stay
from mqttproxy.reload import Built, Running

SESSIONS_AT_ONCE: Final = 100  # looked at before others have a turn


async def touched(running: Running, built: Built) -> dict[str, Any]:
    """Return, for each listener and upstream that a change touches, what is there now; and how many sessions move."""
    return {
        "listeners": _listeners(running, built.config),
        "upstreams": _upstreams(running, built.config),
        "sessions_moved": await _sessions_moved(running, built),
    }


def _listeners(running: Running, new: ProxyConfig) -> dict[str, Any]:
    """Return how many devices are connected to listeners whose devices would be sent away."""
    wanted = {one.name: one for one in new.listeners if one.enabled}
    connected = running.door.connected()
    told = {}
    for old in running.config.listeners:
        if old.enabled and not _stays(old, wanted.get(old.name)):
            told[old.name] = {"devices_sent_away": connected.get(old.name, 0)}
    return told


def _stays(old: ListenerSettings, new: ListenerSettings | None) -> bool:
    return new is not None and lets_stay(old, new)


def _upstreams(running: Running, new: ProxyConfig) -> dict[str, Any]:
    """Return what waits for upstreams that would be removed or linked anew."""
    wanted = {one.name: one for one in new.upstreams if one.enabled}
    told = {}
    for name, upstream in running.pool.items():
        if wanted.get(name) != upstream.settings:
            feed = running.keeping.spool.feeds.get(name)
            waiting = upstream.queued + upstream.in_flight + (feed.on_disk if feed is not None else 0)
            told[name] = {"removed": name not in wanted, "messages_waiting": waiting}
    return told


async def _sessions_moved(running: Running, built: Built) -> int:
    """Count the sessions with a subscription that would be served from elsewhere."""
    old, new = running.pipeline.ruleset.routes, built.ruleset.routes
    moved = 0
    for number, session in enumerate(list(running.keeping.sessions)):
        if number % SESSIONS_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
        moved += any(
            old.homes_for_filter(entry.subscription.topic_filter)
            != new.homes_for_filter(entry.subscription.topic_filter)
            for entry in running.pipeline.table.entries_of(session.client_id)
        )
    return moved
