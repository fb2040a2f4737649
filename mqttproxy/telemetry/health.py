"""Is the process alive, and can it take messages: what each component last said of itself."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal

from attrs import frozen

# What a component that is not well makes false. "nothing": it is shown as degraded, and the answer stays yes.
Gates = Literal["nothing", "ready", "live"]

JSON = dict[str, object]
Details = Mapping[str, object]
_NOTHING: Final[Details] = MappingProxyType({})


@frozen
class _Report:
    ok: bool
    reason: str
    gates: Gates
    since_wall: float
    since: float
    details: Details


class Health:
    """The latest report of each component. Reports come from the Trio thread and are cheap to repeat."""

    def __init__(self, *, wall: Callable[[], float] = time.time, now: Callable[[], float] = time.monotonic) -> None:
        """Make one in which nobody has reported, which is alive and not ready.

        Args:
            wall: seconds since 1970, to say since when.
            now: monotonic seconds, to say for how long.

        """
        self._wall: Final = wall
        self._now: Final = now
        self._started: Final = now()
        self._reports: Final[dict[str, _Report]] = {}

    def report(
        self, name: str, ok: bool, reason: str = "", *, gates: Gates = "ready", details: Details = _NOTHING
    ) -> None:
        """Say how a component is.

        Args:
            name: of the component, such as "quarantine" or "upstream:a"; from the configuration, never from a device.
            ok: whether it does its work.
            reason: for people; it may change without changing since when.
            gates: what is false while it is not ok.
            details: more about it for programs, JSON; as old as the report.

        """
        before = self._reports.get(name)
        if before is not None and before.ok == ok:
            if (before.reason, before.gates, before.details) != (reason, gates, details):
                self._reports[name] = _Report(ok, reason, gates, before.since_wall, before.since, details)
            return
        self._reports[name] = _Report(ok, reason, gates, self._wall(), self._now(), details)

    def forget(self, name: str) -> None:
        """Remove a component that is no longer there, such as an upstream that a reload took away."""
        self._reports.pop(name, None)

    def live(self) -> tuple[bool, JSON]:
        """Return whether the process should be left running, and all reports as a JSON document."""
        return self._answer(lambda report: report.gates == "live", started=True)

    def ready(self) -> tuple[bool, JSON]:
        """Return whether messages can be taken, and all reports as a JSON document."""
        return self._answer(lambda report: report.gates != "nothing", started=bool(self._reports))

    def reasons(self) -> list[str]:
        """Return why the process is not ready, each component that makes it so in words; empty if it is."""
        if not self._reports:
            return ["starting"]
        ill = {name: report for name, report in sorted(self._reports.items()) if not report.ok}
        return [f"{name}: {report.reason}" for name, report in ill.items() if report.gates != "nothing"]

    def _answer(self, counts: Callable[[_Report], bool], *, started: bool) -> tuple[bool, JSON]:
        ill = [report for report in self._reports.values() if not report.ok]
        ok = started and not any(counts(report) for report in ill)
        status = "starting" if not started else "failing" if not ok else "degraded" if ill else "ok"
        now = self._now()
        return ok, {
            "status": status,
            "uptime_seconds": round(now - self._started, 3),
            "components": {name: _told(report, now) for name, report in sorted(self._reports.items())},
        }


def _told(report: _Report, now: float) -> JSON:
    return {
        "ok": report.ok,
        "reason": report.reason,
        "since": datetime.fromtimestamp(report.since_wall, UTC).isoformat(timespec="milliseconds"),
        "for_seconds": round(now - report.since, 3),
        "gates": report.gates,
        **({"details": report.details} if report.details else {}),
    }
