"""`mqttproxy quarantine export`: held messages as JSON lines, as CSV for a spreadsheet, or as Parquet."""

import csv
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, Literal

from mqttproxy.cli.held_masks import Veil, veil_of
from mqttproxy.cli.held_options import ALL, FILE, Config, FilterOptions, Switch, Unmasked, look, messages_of
from mqttproxy.cli.held_output import as_line
from mqttproxy.cli.output import complain
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.filters import Filters
from mqttproxy.quarantine.model import Record, properties_to_json

Format = Literal["jsonl", "csv", "parquet"]
Pair = tuple[Record, bytes]

COLUMNS: Final = (
    "id", "state", "time", "client_id", "username", "address", "listener", "topic", "qos", "retain", "policy", "schema",
    "reason", "destination", "issues", "pointer", "keyword", "message", "failures", "properties", "payload",
    "payload_hex",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet may take for one
_GROUP: Final = 1000  # rows of a Parquet file that are written at once


def export(
    *,
    config: Config = FILE,
    options: FilterOptions = ALL,
    output: Path | None = None,
    format: Format = "jsonl",  # noqa: A002 # as the option is called
    unmasked: Unmasked = False,
    json: Switch = False,
) -> int:
    """Write held messages with their payloads, the oldest first.

    Args:
        config: the configuration of the proxy.
        options: which messages.
        output: the file to write, readable for its owner only; by default standard output.
        format: JSON lines; CSV, in which no cell is taken for a formula; or Parquet, which needs `--output`.
        unmasked: payloads as they are stored, without `[[masks]]`; it is told in the audit trail.
        json: the same as `--format jsonl`, as with the other commands.

    """
    chosen: Format = "jsonl" if json else format
    if chosen == "parquet":
        if output is None:
            complain("Parquet goes to a file: give --output")
            return 2
        if not _has_parquet():
            complain("Parquet needs pyarrow, which is not there: pip install 'mqttproxy[parquet]'")
            return 2

    def work(archive: Archive) -> int:
        pairs = _Pairs(archive, options.filters(), veil_of(config, unmasked=unmasked, what="quarantine export"))
        with _opened(output) as file:
            _WRITERS[chosen](pairs, file)
        complain(f"{messages_of(pairs.count)} exported")
        return 1 if pairs.missing else 0

    return look(config, work, none=0)


class _Pairs:
    """Messages with their payloads, while they last; what cannot be read is told."""

    def __init__(self, archive: Archive, filters: Filters, veil: Veil) -> None:
        self.count = self.missing = 0
        self._archive = archive
        self._filters = filters
        self._veil = veil

    def __iter__(self) -> Iterator[Pair]:
        for record in self._archive.search(self._filters, oldest_first=True):
            try:
                payload = self._archive.payload(record)
            except OSError as error:
                complain(f"{record.id}: the payload cannot be read: {error}")
                self.missing += 1
                continue
            if payload is not None:
                self.count += 1
                yield self._veil.record(record), self._veil.payload(payload, record.topic)


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    if output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # it may have been there with another mode
        yield file


def _write_lines(pairs: Iterable[Pair], file: IO[bytes]) -> None:
    for record, payload in pairs:
        file.write(as_line(record, payload).encode("ascii") + b"\n")


class _Encoded:
    """What `csv` writes to."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def _write_csv(pairs: Iterable[Pair], file: IO[bytes]) -> None:
    writer = csv.writer(_Encoded(file))
    writer.writerow(COLUMNS)
    for record, payload in pairs:
        row = _row(record, payload)
        writer.writerow([harmless("" if row[name] is None else str(row[name])) for name in COLUMNS])


def harmless(cell: str) -> str:
    """Return what a spreadsheet shows as this text and never computes: an apostrophe goes before what looks like it."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _row(record: Record, payload: bytes) -> dict[str, Any]:
    first = record.failures[0] if record.failures else ("", "", "")
    try:
        text, rest = payload.decode(), ""
        if "\0" in text:
            text, rest = "", payload.hex()
    except UnicodeDecodeError:
        text, rest = "", payload.hex()
    return {
        "id": record.id,
        "state": record.state,
        "time": datetime.fromtimestamp(record.at, UTC).isoformat(timespec="milliseconds"),
        "client_id": record.client_id,
        "username": record.username,
        "address": record.address,
        "listener": record.listener,
        "topic": record.topic,
        "qos": record.qos,
        "retain": int(record.retain),
        "policy": record.policy,
        "schema": record.schema,
        "reason": f"0x{record.reason:02X}",
        "destination": record.destination,
        "issues": " ".join(record.issues),
        "pointer": first[0],
        "keyword": first[1],
        "message": first[2],
        "failures": json.dumps(record.failures),
        "properties": properties_to_json(record.properties),
        "payload": text,
        "payload_hex": rest,
    }


def _has_parquet() -> bool:
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError:
        return False
    return True


def _write_parquet(pairs: Iterable[Pair], file: IO[bytes]) -> None:
    import pyarrow as pa  # noqa: PLC0415 # an extra
    from pyarrow.parquet import ParquetWriter  # noqa: PLC0415 # the same

    text, strings = pa.string(), pa.list_(pa.string())
    failure = pa.struct([("pointer", text), ("keyword", text), ("message", text)])
    schema = pa.schema(
        [
            ("id", text), ("state", text), ("time", pa.timestamp("us", tz="UTC")), ("client_id", text),
            ("username", text), ("address", text), ("listener", text), ("topic", text), ("qos", pa.int8()),
            ("retain", pa.bool_()), ("policy", text), ("schema", text), ("reason", pa.int16()),
            ("destination", text), ("issues", strings), ("failures", pa.list_(failure)), ("properties", text),
            ("payload", pa.binary()),
        ]
    )  # fmt: skip
    with ParquetWriter(file, schema) as writer:
        rows: list[dict[str, Any]] = []
        for record, payload in pairs:
            rows.append(_typed(record, payload))
            if len(rows) == _GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows.clear()
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _typed(record: Record, payload: bytes) -> dict[str, Any]:
    failures = [dict(zip(("pointer", "keyword", "message"), failure, strict=True)) for failure in record.failures]
    return {
        **_row(record, payload),
        "time": datetime.fromtimestamp(record.at, UTC),
        "retain": record.retain,
        "reason": record.reason,
        "issues": list(record.issues),
        "failures": failures,
        "payload": payload,
    }


_WRITERS: Final[dict[Format, Callable[[Iterable[Pair], IO[bytes]], None]]] = {
    "jsonl": _write_lines,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
