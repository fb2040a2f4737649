"""The tables of the spool: rows to values of columns and back."""

from collections.abc import Sequence
from typing import Any, Final

from mqttproxy.journal import Row
from mqttproxy.journal.store import Table
from mqttproxy.spool.rows import ConsumedRow, DestinationRow, InFlightRow, RunRow

_MESSAGE_COST: Final = 64  # bytes of a message on disk beside its payload, about


def _write_run(row: RunRow) -> Sequence[object]:
    return row.first, row.last, row.mask, row.epoch, row.at, row.messages, row.size, row.data


def _no_run(values: Any) -> RunRow:
    raise NotImplementedError("runs are read by `reader`, never all of them")


def _write_consumed(row: ConsumedRow) -> Sequence[object]:
    return row.mask, row.upto


def _write_destination(row: DestinationRow) -> Sequence[object]:
    return row.number, row.name, row.cursor, row.account


def _write_in_flight(row: InFlightRow) -> Sequence[object]:
    return row.destination, row.packet_id, row.message, row.released


def _read_in_flight(values: Any) -> InFlightRow:
    destination, packet_id, message, released = values
    return InFlightRow(destination, packet_id, message, bool(released))


TABLES: Final[dict[type[Row], Table]] = {
    RunRow: Table(
        "runs", "first, last, mask, epoch, at, messages, size, data", "first", _write_run, _no_run, is_loaded=False,
        weigh=lambda row: row.size + _MESSAGE_COST * row.messages,
    ),
    ConsumedRow: Table(
        "runs", "mask, last", "mask", _write_consumed, _no_run, is_loaded=False,
        instead="DELETE FROM runs WHERE mask = ? AND last <= ?",
    ),
    DestinationRow: Table(
        "destinations", "number, name, cursor, account", "number", _write_destination,
        lambda values: DestinationRow(*values),
    ),
    InFlightRow: Table(
        "in_flight", "destination, packet_id, message, released", "destination, packet_id", _write_in_flight,
        _read_in_flight,
    ),
}  # fmt: skip
