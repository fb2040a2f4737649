import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import structlog

from mqttproxy.telemetry.logs import Log, LogFormat, LogLevel, RateLimited, configure_logging, get_log

HOSTILE = "a\x1b[31m\r\nready x=1\x9b\x00\u202e%s{0}\ud800"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def logged(
    say: Callable[[Log], object],
    format: LogFormat = "json",  # noqa: A002  # the setting's name
    level: LogLevel = "info",
    stream: io.BytesIO | None = None,
) -> str:
    stream = stream or io.BytesIO()
    configure_logging(level, format, stream=stream)
    say(get_log())
    return stream.getvalue().decode()


def test_an_event_is_one_line_of_json_with_time_level_name_and_fields() -> None:
    line = logged(lambda log: log.info("ready", listeners=["plain"]))
    assert line.count("\n") == 1
    document = json.loads(line)
    assert document.pop("timestamp").endswith("Z")
    assert document == {"level": "info", "event": "ready", "listeners": ["plain"]}


def test_events_below_the_level_are_not_logged() -> None:
    assert logged(lambda log: log.info("ready"), level="warning") == ""
    assert logged(lambda log: log.debug("read")) == ""
    assert logged(lambda log: log.debug("read"), level="debug") != ""


def test_a_log_made_before_a_reload_follows_the_new_level() -> None:
    log = get_log()
    stream = io.BytesIO()
    configure_logging("error", "json", stream=stream)
    log.warning("a")
    configure_logging("info", "json", stream=stream)
    log.warning("b")
    assert json.loads(stream.getvalue())["event"] == "b"


def test_bound_fields_are_in_every_line() -> None:
    assert json.loads(logged(lambda log: log.bind(upstream="a").info("linked")))["upstream"] == "a"


def test_auto_is_console_on_a_terminal_and_json_elsewhere() -> None:
    assert "ready" in logged(lambda log: log.info("ready"), "auto", stream=Terminal())
    assert not logged(lambda log: log.info("ready"), "auto", stream=Terminal()).startswith("{")
    assert logged(lambda log: log.info("ready"), "auto").startswith("{")


def test_G2_hostile_text_stays_in_its_json_line() -> None:
    line = logged(lambda log: log.info("refused", client_id=HOSTILE, key={"deep": HOSTILE}))
    assert line.count("\n") == 1
    assert not any(character in line for character in "\x1b\r\x9b\x00\u202e")
    assert json.loads(line)["event"] == "refused"


@pytest.mark.parametrize("value", [HOSTILE, HOSTILE.encode("utf-8", "surrogatepass"), [HOSTILE], {"k": HOSTILE}])
def test_G2_hostile_text_stays_in_its_console_line(value: object) -> None:
    line = logged(lambda log: log.info("refused", client_id=value), "console")
    assert line.count("\n") == 1
    assert not any(character in line for character in "\x1b\r\x9b\x00\u202e")


def test_G2_a_hostile_event_is_escaped_too() -> None:
    assert logged(lambda log: log.info(HOSTILE), "console").count("\n") == 1


def test_G2_long_text_is_cut() -> None:
    document = json.loads(logged(lambda log: log.info("refused", name="x" * 65_535)))
    assert len(document["name"]) < 4200
    assert document["name"].endswith("(65535 characters)")


def bug(log: Log) -> None:
    try:
        int(HOSTILE + "\n2026-11-21 [info] forged")
    except ValueError:
        log.exception("bug")


def test_an_exception_is_told_with_its_traceback() -> None:
    document = json.loads(logged(bug))
    assert document["event"] == "bug"
    assert "Traceback" in document["exception"]
    assert "in bug" in document["exception"]


def test_G2_no_line_of_a_traceback_on_the_console_passes_for_an_event() -> None:
    first, *others = logged(bug, "console").rstrip("\n").split("\n")
    assert "bug" in first
    assert len(others) > 3
    assert all(line.startswith("  ") for line in others)
    assert not any(character in "".join(others) for character in "\x1b\r\x9b\x00\u202e")


def test_what_libraries_log_comes_out_the_same_way_from_warning_on() -> None:
    def others(_: Log) -> None:
        library = logging.getLogger("hypercorn.error")
        library.info("Running on http://…")
        library.warning("trouble %d", 3)
        library.warning("wrong %d %d", 3)

    first, second = map(json.loads, logged(others).splitlines())
    assert (first["event"], first["logger"], first["level"]) == ("trouble 3", "hypercorn.error", "warning")
    assert second["event"] == "wrong %d %d"


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    stream = io.BytesIO()
    configure_logging("info", "json", stream=stream)
    stream.close()
    get_log().error("nobody hears this")
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123  # a device, not a file of ours
        configure_logging("info", "json", stream=cast("Any", full))
        get_log().error("nor this")


class Heard:
    """A log that remembers, and the clock that goes with it."""

    def __init__(self, **options: int) -> None:
        self.seconds = 0.0
        self.lines: list[tuple[str, dict[str, object]]] = []
        self.limited = RateLimited(log=cast("Log", self), now=lambda: self.seconds, **options)

    def info(self, event: str, /, **fields: object) -> None:
        self.lines.append((event, fields))

    warning = error = info


def test_one_line_for_each_key_and_second_with_the_number_left_out() -> None:
    heard = Heard()
    for _ in range(5):
        heard.limited.warning("a", "refused", n=1)
        heard.limited.warning("b", "refused", n=2)
    assert heard.lines == [("refused", {"n": 1}), ("refused", {"n": 2})]
    heard.seconds = 1.0
    heard.limited.error("a", "refused", n=3)
    assert heard.lines[2:] == [("refused", {"n": 3, "suppressed": 4})]
    heard.seconds = 2.0
    heard.limited.info("a", "refused")
    assert heard.lines[3:] == [("refused", {})]


def test_a_flood_of_keys_gets_a_bounded_number_of_lines() -> None:
    heard = Heard(keys=3)
    for number in range(1000):
        heard.limited.warning(f"client-{number}", "refused")
    assert len(heard.lines) == 4  # three keys, and one line for all others


def test_a_key_that_fell_silent_makes_room_and_its_count_is_told() -> None:
    heard = Heard(keys=1)
    heard.limited.warning("a", "refused")
    heard.limited.warning("a", "refused")
    heard.seconds = 1.0
    heard.limited.warning("b", "refused")
    assert heard.lines[1:] == [("suppressed", {"key": "a", "suppressed": 1}), ("refused", {})]


def test_flush_tells_what_nothing_followed() -> None:
    heard = Heard()
    heard.limited.warning("a", "refused")
    heard.limited.warning("a", "refused")
    heard.limited.flush()
    assert len(heard.lines) == 1  # its second is not over
    heard.seconds = 1.0
    heard.limited.flush()
    heard.limited.flush()
    assert heard.lines[1:] == [("suppressed", {"key": "a", "suppressed": 1})]
