"""How held messages are written: for people, so that nothing a device sent can command their terminal; for programs."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.quarantine.model import Failures, Record, properties_to_json, rules_of

_CUT: Final = 200  # characters of one cell
_WIDTH: Final = 200  # of a table that does not go to a terminal
_TABLE_WIDTH: Final = 160  # columns that a table needs to be read with ease
_ROW: Final = 16  # bytes in a line of a hex dump


def printable(text: str, *, keep: str = "") -> str:
    r"""Return the text with everything escaped that is not plainly visible, such as `\x1b`; `keep` stays as it is."""
    return "".join([char if char.isprintable() or char in keep else _escaped(char) for char in text])


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def tabulate(records: Sequence[Record], file: TextIO) -> None:
    """Write a table for people; on a narrow terminal a few lines for each message."""
    console = Console(file=file, width=None if file.isatty() else _WIDTH, highlight=False)
    if not records:
        console.print("no message is held")
    elif console.width >= _TABLE_WIDTH:
        console.print(_table(records))
    else:
        for record in records:
            console.print(_head(record), _lines(record))


def _table(records: Sequence[Record]) -> Table:
    table = Table("id", "time", "client", "topic", "policy", "bytes", "why", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    table.columns[5].justify = "right"
    for record in records:
        cells = (
            record.id,
            _time(record.at),
            record.client_id,
            record.topic,
            record.policy or "",
            str(record.payload_size),
            _why(record.failures),
        )
        table.add_row(*map(_cell, cells))
    return table


def _head(record: Record) -> Text:
    size = "1 byte" if record.payload_size == 1 else f"{record.payload_size} bytes"
    facts = (_time(record.at), size, *([printable(record.policy)] if record.policy else []))
    return Text.assemble((record.id, "bold"), *(f"  {fact}" for fact in facts), overflow="fold")


def _lines(record: Record) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    for name, value in (("client", record.client_id), ("topic", record.topic), ("why", _why(record.failures))):
        grid.add_row(f"  {name}", _cell(value))
    return grid


def _cell(text: str) -> Text:
    return Text(_cut(printable(text)), overflow="fold")  # as Text: brackets in a topic are no markup


def describe(record: Record, payload: bytes) -> str:
    """Return everything about a message, for people, in lines."""
    try:
        reason = ReasonCode(record.reason).name.lower().replace("_", " ")
    except ValueError:
        reason = "unknown"
    facts = [
        ("id", record.id),
        ("state", record.state),
        ("time", _time(record.at)),
        ("client", record.client_id),
        ("user name", "" if record.username is None else record.username),
        ("address", record.address),
        ("listener", record.listener),
        *([("attributes", json.dumps(dict(record.attributes)))] if record.attributes else []),
        ("topic", record.topic),
        ("qos", str(record.qos)),
        ("retain", "yes" if record.retain else "no"),
        ("policy", record.policy or ""),
        ("schema", record.schema or ""),
        ("reason", f"0x{record.reason:02X} {reason}"),
        *([("refused by", record.destination)] if record.destination is not None else []),
        *([("release", str(record.release))] if record.release is not None else []),
        *([("released", _time(record.released_at))] if record.released_at is not None else []),
        ("issues", " ".join(record.issues)),
        ("properties", properties_to_json(record.properties) or ""),
    ]
    lines = [f"{name + ':':<12}{printable(value)}".rstrip() for name, value in facts]
    lines.append(f"{'failures:':<12}{len(record.failures)}")
    lines.extend(f"  {printable(_failure(failure))}" for failure in record.failures)
    try:
        shown = printable(payload.decode(), keep="\n\t")
        kind = "text"
    except UnicodeDecodeError:
        shown = hex_dump(payload)
        kind = "not text"
    lines.append(f"{'payload:':<12}{len(payload)} bytes, {kind}")
    return "\n".join([*lines, shown])


def hex_dump(data: bytes) -> str:
    """Return the bytes in lines of 16: offset, hexadecimal, and the letters among them."""
    lines = []
    for start in range(0, len(data), _ROW):
        row = data[start : start + _ROW]
        letters = "".join([chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row])
        lines.append(f"{start:08x}  {row.hex(' '):<{3 * _ROW - 1}}  {letters}")
    return "\n".join(lines)


def as_line(record: Record, payload: bytes | None = None) -> str:
    """Return one JSON object on one line, in ASCII, so that it is harmless on a terminal too.

    With a payload: `payload` is base64 of the original bytes, `json` what they say if they are JSON.

    """
    document: dict[str, Any] = {
        "id": record.id,
        "state": record.state,
        "at": record.at,
        "time": _iso(record.at),
        "client_id": record.client_id,
        "username": record.username,
        "address": record.address,
        "listener": record.listener,
        "attributes": dict(record.attributes),
        "topic": record.topic,
        "qos": record.qos,
        "retain": record.retain,
        "properties": json.loads(properties_to_json(record.properties) or "{}"),
        "policy": record.policy,
        "schema": record.schema,
        "reason": record.reason,
        "destination": record.destination,
        "release": record.release,
        "released_at": record.released_at,
        "issues": list(record.issues),
        "failures": [
            {"pointer": pointer, "keyword": keyword, "message": message, "policy": policy, "schema": schema}
            for (policy, schema), (pointer, keyword, message) in zip(rules_of(record), record.failures, strict=True)
        ],
        "payload_size": record.payload_size,
        "masked": record.is_masked,
    }
    if payload is None:
        return json.dumps(document)
    document["payload"] = base64.b64encode(payload).decode("ascii")
    try:
        document["json"] = json.loads(payload.decode(), parse_constant=_refuse)
        return json.dumps(document, allow_nan=False)
    except (ValueError, RecursionError):  # not JSON, or such JSON that it is better left alone
        document.pop("json", None)
        return json.dumps(document)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _why(failures: Failures) -> str:
    if not failures:
        return ""
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return _cut(_failure(failures[0])) + more


def _failure(failure: tuple[str, str, str]) -> str:
    pointer, keyword, message = failure
    return f"{pointer or 'whole payload'}: {keyword}: {message}"


def _cut(text: str) -> str:
    return text if len(text) <= _CUT else f"{text[: _CUT - 1]}…"
