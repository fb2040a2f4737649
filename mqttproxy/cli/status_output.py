"""How the state of a proxy is written for people."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mqttproxy.cli.held_output import printable

_HEAD = ("destination", "state", "for", "breaker", "queued", "in flight", "")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"))


def tabulate(document: Mapping[str, Any]) -> Iterable[str]:
    """Return the lines for a document of /status."""
    ready = "ready" if document["ready"] else "NOT READY"
    yield printable(f"{document['node']}: {ready}, mqttproxy {document['version']}, up {rough(document['uptime'])}")
    for reason in document["reasons"]:
        yield printable(f"  {reason}")
    for name, address in document["listeners"].items():
        yield printable(f"  listens on {address} ({name})")
    if (configuration := document.get("configuration")) is not None:
        yield printable(f"  generation {configuration['generation']} of {_file(configuration)}")
    destinations = document["destinations"]
    if destinations:
        yield ""
        yield from _table([_HEAD, *map(_row, destinations)])


def _file(configuration: Mapping[str, Any]) -> str:
    trial = configuration["on_trial"]
    if trial is not None:
        return f"{trial['called']}, on trial for {rough(trial['seconds_left'])} more"
    return f"{configuration['file']}" + (", which has been changed since" if configuration["file_differs"] else "")


def rough(seconds: float | None) -> str:
    """Return a duration as people say it: in the two largest units that are not 0."""
    if seconds is None:
        return ""
    left = round(seconds)
    for number, (size, unit) in enumerate(_UNITS):
        if left >= size:
            smaller, name = _UNITS[number + 1] if number + 1 < len(_UNITS) else (1, "s")
            rest = left % size // smaller
            return f"{left // size}{unit}" + (f" {rest}{name}" if rest else "")
    return f"{left}s"


def _row(destination: Mapping[str, Any]) -> tuple[str, ...]:
    state = "connected" if destination["connected"] else "down"
    if destination["paused"] is not None:
        state = "paused"
    return (
        destination["name"],
        state,
        rough(destination["since"]),
        destination["breaker"]["state"],
        str(destination["queued"]),
        str(destination["in_flight"]),
        "; ".join(_facts(destination)),
    )


def _facts(destination: Mapping[str, Any]) -> Iterable[str]:
    breaker = destination["breaker"]
    if destination["last_error"] is not None:
        yield destination["last_error"]
    if destination["contested"]:
        yield "somebody else uses our client identifier"
    if destination["paused"] is not None:
        yield f"the broker says: {destination['paused']}, tried again in {rough(destination['resumes'])}"
    if breaker["reason"] not in {None, destination["last_error"]}:
        yield f"breaker: {breaker['reason']}"
    if breaker["next_trial"] is not None:
        yield f"next trial in {rough(breaker['next_trial'])}"
    elif destination["next_try"] is not None:
        yield f"dialled again in {rough(destination['next_try'])}"
    if destination["suspects"]:
        yield f"{destination['suspects']} messages go one by one, because links were lost with them"
    if destination["insecure"]:
        yield "INSECURE: its certificate is not checked"


def _table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()
