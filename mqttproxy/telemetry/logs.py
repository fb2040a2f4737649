"""Structured logs for operations: console on a terminal, JSON otherwise, one event a line, on standard error.

Never called once per message: trouble that a device can cause at will goes through `RateLimited`.
"""

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, BinaryIO, Final, Literal, Protocol, cast

from attrs import define, field

from mqttproxy.telemetry.jsonlines import encode_line
from mqttproxy.telemetry.light import light_imports

with light_imports():
    import structlog

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]
_Event = MutableMapping[str, Any]

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_LONGEST: Final = 4096  # characters of one field; a device may send 64 KiB as its name
_MANY_LINES: Final = frozenset({"exception", "stack"})


class Log(Protocol):
    """What rooms may do with a log. Events are short names in lower case; everything that varies is a field."""

    def debug(self, event: str, /, **fields: Any) -> Any:
        """Log what helps to understand one connection."""

    def info(self, event: str, /, **fields: Any) -> Any:
        """Log what an operator may want to see of a healthy proxy."""

    def warning(self, event: str, /, **fields: Any) -> Any:
        """Log trouble that the world makes and the proxy copes with."""

    def error(self, event: str, /, **fields: Any) -> Any:
        """Log trouble that needs a person."""

    def exception(self, event: str, /, **fields: Any) -> Any:
        """Log an error with the traceback of the exception that is being handled: for our own bugs only."""

    def bind(self, **fields: Any) -> "Log":
        """Return a log that adds these fields to every event."""


def get_log(**fields: Any) -> Log:
    """Return a log. It may be made at import: it looks up the configuration at each event."""
    return cast("Log", structlog.get_logger(**fields))


def configure_logging(level: LogLevel = "info", format: LogFormat = "auto", *, stream: BinaryIO | None = None) -> None:  # noqa: A002  # the setting's name
    """Set up logging for the whole process, that of hypercorn and websockets included. May be called again at reload.

    Args:
        level: least severe event that is logged; other libraries are heard from warning on.
        format: auto is console on a terminal and JSON otherwise.
        stream: where bytes go; by default standard error.

    """
    stream = sys.stderr.buffer if stream is None else stream
    on_terminal = stream.isatty()
    console = format == "console" or (format == "auto" and on_terminal)
    renderer: Any
    if console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=on_terminal, exception_formatter=structlog.dev.plain_traceback, sort_keys=False
        )
    else:
        renderer = _as_json
    sink = _Sink(stream)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
            structlog.processors.format_exc_info,
            _cut,
            *([_escape] if console else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,  # a reload may change the level
    )
    root = logging.getLogger()
    root.handlers = [_FromStandardLibrary()]
    root.setLevel(max(logging.WARNING, _LEVELS[level]))


def _cut(_log: object, _method: str, event: _Event) -> _Event:
    for name, value in event.items():
        if isinstance(value, str) and len(value) > _LONGEST and name not in _MANY_LINES:
            event[name] = f"{value[:_LONGEST]}… ({len(value)} characters)"
    return event


def _escape(_log: object, _method: str, event: _Event) -> _Event:
    # The console renderer prints text as it stands, so control characters would reach the terminal.
    for name, value in event.items():
        if name in _MANY_LINES:
            # Indented, so that no line of a device's making can pass for an event.
            event[name] = "\n".join("  " + printable(line) for line in str(value).split("\n"))
        elif isinstance(value, str):
            event[name] = printable(value)
        elif value is not None and not isinstance(value, (bool, int, float)):
            event[name] = printable(repr(value))
    return event


def printable(text: str) -> str:
    """Return the text with every character that is not printable, a space apart, as Python would write it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _as_json(_log: object, _method: str, event: _Event) -> bytes:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return encode_line(first | dict(event))


class _Sink:
    # The end of the chain. A log that cannot be written (pipe closed, disk full) must not end a connection.
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.lost = 0

    def msg(self, line: str | bytes) -> None:
        if isinstance(line, str):
            line = line.encode("utf-8", "backslashreplace")
        try:
            self._stream.write(line + b"\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.lost += 1

    debug = info = warning = error = critical = exception = log = msg


class _FromStandardLibrary(logging.Handler):
    # What hypercorn, websockets and others log.
    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # their arguments do not fit their text
            message = str(record.msg)
        structlog.get_logger().log(record.levelno, message, logger=record.name, exc_info=record.exc_info)


OTHER: Final = "other"


@define
class _Key:
    last: float
    suppressed: int = 0


@define(kw_only=True)
class RateLimited:
    """A log for trouble that devices can cause at will: one line per key and period, with the number left out.

    At most `keys` keys are told apart; while all of them are busy, further ones share the key "other".
    """

    log: Log
    now: Callable[[], float] = time.monotonic
    period: float = 1.0  # seconds
    keys: int = 64
    _known: dict[str, _Key] = field(factory=dict, init=False)  # the one that spoke longest ago first

    def info(self, key: str, event: str, /, **fields: Any) -> None:
        """Log at info, unless the key had its line in this period."""
        self._say(self.log.info, key, event, fields)

    def warning(self, key: str, event: str, /, **fields: Any) -> None:
        """Log at warning, unless the key had its line in this period."""
        self._say(self.log.warning, key, event, fields)

    def error(self, key: str, event: str, /, **fields: Any) -> None:
        """Log at error, unless the key had its line in this period."""
        self._say(self.log.error, key, event, fields)

    def flush(self) -> None:
        """Tell what was left out and never followed by another line; for shutdown and for a slow timer."""
        now = self.now()
        for key, known in self._known.items():
            if known.suppressed and now - known.last >= self.period:
                self.log.info("suppressed", key=key, suppressed=known.suppressed)
                known.suppressed = 0

    def _say(self, say: Callable[..., Any], key: str, event: str, fields: dict[str, Any]) -> None:
        now = self.now()
        known = self._known.get(key)
        if known is None and len(self._known) >= self.keys and not self._make_room(now):
            key = OTHER
            known = self._known.get(key)
        if known is not None and now - known.last < self.period:
            known.suppressed += 1
            return
        if known is not None:
            del self._known[key]  # so that it is put last
            if known.suppressed:
                fields["suppressed"] = known.suppressed
        self._known[key] = _Key(now)
        say(event, **fields)

    def _make_room(self, now: float) -> bool:
        oldest, known = next(iter(self._known.items()))
        if now - known.last < self.period:
            return False
        if known.suppressed:
            self.log.info("suppressed", key=oldest, suppressed=known.suppressed)
        del self._known[oldest]
        return True
