"""Reading files of cases: what a configuration is held against before it comes into force."""

from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import attrs
import orjson
from attrs import frozen

from mqttproxy.config.cases import PAYLOADS, CaseFile, CaseSettings, ExpectSettings, GivenSettings
from mqttproxy.config.errors import ConfigError, Fault, quoted
from mqttproxy.config.load import decode, parse_toml, read_file
from mqttproxy.config.model import LOCAL, ProxyConfig
from mqttproxy.config.report import Report
from mqttproxy.config.structure import structure_as
from mqttproxy.config.units import write_size
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.topics import check_topic_name

LARGEST_PAYLOAD: Final = 256 * 1024 * 1024  # bytes of a file; no message can be larger
MOST_EXPIRY: Final = 2**32 - 1  # seconds, four bytes in a packet
UPSTREAM: Final = "upstream:"  # the listener of what an upstream sends


@frozen
class LoadedCase:
    """One case, checked. `file` and `key` tell where it stands."""

    file: str
    key: str
    settings: CaseSettings
    payload: bytes


def case_files(directory: Path) -> list[Path]:
    """Return the files of cases in a folder, by name; none if it is not there."""
    return sorted(directory.glob("*.toml"))


def load_cases(config: ProxyConfig, directory: Path | None = None) -> tuple[LoadedCase, ...]:
    """Read and check all cases of a configuration.

    Args:
        config: checked.
        directory: another folder than the one that it names.

    Raises:
        ConfigError: with everything that is wrong with them, an unreadable file included.

    """
    cases: list[LoadedCase] = []
    faults: list[Fault] = []
    for path in case_files(directory or config.tests.directory):
        try:
            cases += _load(path, config)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return tuple(cases)


def payload_of(given: GivenSettings, folder: Path) -> bytes:
    """Return the payload of a message, however it is written.

    Raises:
        OSError: its file cannot be read.
        ValueError: it is no hexadecimal, or the file is too large.

    """
    if given.text is not None:
        return given.text.encode()
    if given.json is not None:
        return orjson.dumps(given.json)
    if given.hex is not None:
        return bytes.fromhex(given.hex)
    if given.file is None:
        return b""
    with (folder / given.file).open("rb") as source:
        data = source.read(LARGEST_PAYLOAD + 1)
    if len(data) > LARGEST_PAYLOAD:
        raise ValueError(f"more than {write_size(LARGEST_PAYLOAD)}")
    return data


def _load(path: Path, config: ProxyConfig) -> Iterator[LoadedCase]:
    file = str(path)
    cases = structure_as(parse_toml(decode(read_file(path), file), file), CaseFile, file).cases
    report = Report(file, lambda _: None)
    payloads = [_check(case, f"cases[{index}]", path.parent, config, report) for index, case in enumerate(cases)]
    _check_names(cases, report)
    if report.faults:
        raise ConfigError(report.faults)
    for index, (case, payload) in enumerate(zip(cases, payloads, strict=True)):
        yield LoadedCase(file, f"cases[{index}]", case, payload)


def _check_names(cases: Sequence[CaseSettings], report: Report) -> None:
    seen: dict[str, int] = {}
    for index, case in enumerate(cases):
        first = seen.setdefault(case.name, index)
        if first != index:
            report.add(f"cases[{index}].name", quoted(case.name), "a unique name", f"cases[{first}] has it too")


def _check(case: CaseSettings, key: str, folder: Path, config: ProxyConfig, report: Report) -> bytes:
    """Return the payload; what is wrong goes into the report."""
    given, expect = case.given, case.expect
    try:
        check_topic_name(given.topic, max_bytes=config.limits.topic_bytes, max_levels=config.limits.topic_levels)
    except RemoteProtocolError as error:
        report.add(f"{key}.given.topic", quoted(given.topic), "a topic name", str(error))
    _check_numbers(given, f"{key}.given", report)
    _check_listener(given, f"{key}.given", config, report)
    if expect.policy is not None:
        _check_known(f"{key}.expect.policy", expect.policy, [one.name for one in config.policies], "a policy", report)
    places = [*(upstream.name for upstream in config.upstreams), LOCAL]
    for index, name in enumerate(expect.destinations or ()):
        _check_known(f"{key}.expect.destinations[{index}]", name, places, f"an upstream or {LOCAL}", report)
    payloads: Any = {} if expect.payloads is None else expect.payloads
    if not isinstance(payloads, dict):
        report.add(f"{key}.expect.payloads", "no table", "a table of destinations and what they get")
        payloads = {}
    for name in payloads:
        _check_known(f"{key}.expect.payloads", name, places, f"an upstream or {LOCAL}", report)
    return _check_payload(given, f"{key}.given", folder, report)


def _check_numbers(given: GivenSettings, key: str, report: Report) -> None:
    if given.qos not in (0, 1, 2):
        report.add(f"{key}.qos", str(given.qos), "0, 1 or 2")
    if given.payload_format_indicator not in (None, 0, 1):
        report.add(f"{key}.payload_format_indicator", str(given.payload_format_indicator), "0 or 1")
    if given.expiry is not None and not (given.expiry.is_integer() and given.expiry <= MOST_EXPIRY):
        report.add(f"{key}.expiry", f"{given.expiry:g} s", f"whole seconds, at most {MOST_EXPIRY}")


def _check_listener(given: GivenSettings, key: str, config: ProxyConfig, report: Report) -> None:
    if given.direction == "down":
        names = [f"{UPSTREAM}{upstream.name}" for upstream in config.upstreams]
        if given.listener is None:
            report.add(f"{key}.listener", "nothing", f'"{UPSTREAM}<name>", as the direction is down')
            return
    else:
        names = [listener.name for listener in config.listeners]
    if given.listener is not None:
        _check_known(f"{key}.listener", given.listener, names, "a listener", report)


def _check_known(key: str, name: str, known: Collection[str], what: str, report: Report) -> None:
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {quoted(close[0])}?" if close else ""
        report.add(key, quoted(name), f"{what} of the configuration", hint)


def _check_payload(given: GivenSettings, key: str, folder: Path, report: Report) -> bytes:
    ways = [way for way in PAYLOADS if getattr(given, way) is not None]
    if len(ways) > 1:
        report.add(f"{key}.{ways[1]}", "a second payload", f"one of {', '.join(PAYLOADS)}", f"there is {ways[0]}")
        return b""
    try:
        return payload_of(given, folder)
    except OSError as error:
        words = (error.strerror or "an error").lower()
        report.add(f"{key}.file", f"{quoted(str(given.file))}, {words}", "a readable file")
    except (ValueError, TypeError) as error:  # of orjson: whole numbers beyond 64 bits
        found = quoted(given.hex) if given.hex is not None else str(error)
        report.add(f"{key}.{ways[0]}", found, "hexadecimal digits in pairs" if given.hex is not None else "a payload")
    return b""


def keys() -> Iterator[tuple[str, str, str]]:
    """Yield table, key and meaning of everything that a case may hold."""
    for table, attributes in (("given", attrs.fields(GivenSettings)), ("expect", attrs.fields(ExpectSettings))):
        for attribute in attributes:
            yield table, attribute.name, attribute.metadata["text"]
