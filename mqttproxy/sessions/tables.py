"""The tables of the sessions: rows to values of columns and back, and how the tables are made."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mqttproxy.journal import Row
from mqttproxy.journal.store import Table
from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties, RetainHandling, Subscription
from mqttproxy.sessions.records import (
    IncomingRow,
    MessageRow,
    QueuedRow,
    RetainedRow,
    SessionRow,
    SubscriptionRow,
    WillRow,
)

_encode_json: Final = msgspec.json.Encoder().encode
_decode_properties: Final = msgspec.json.Decoder(Properties).decode
_decode_attributes: Final = msgspec.json.Decoder(dict[str, str]).decode
_decode_identifiers: Final = msgspec.json.Decoder(tuple[int, ...]).decode

# What no session has any more. There is none unless a broken database was set aside while its sessions were there.
REMOVE_ORPHANS: Final = (
    "DELETE FROM subscriptions WHERE session NOT IN (SELECT number FROM sessions)",
    "DELETE FROM incoming_qos2 WHERE session NOT IN (SELECT number FROM sessions)",
    "DELETE FROM queued WHERE session NOT IN (SELECT number FROM sessions)",
    "DELETE FROM queued WHERE message NOT IN (SELECT number FROM messages)",
    "DELETE FROM messages WHERE number NOT IN (SELECT message FROM queued)",
)


def _to_json(properties: Properties) -> str | None:
    return None if properties == NO_PROPERTIES else _encode_json(properties).decode()


def _from_json(text: str | None) -> Properties:
    return NO_PROPERTIES if text is None else _decode_properties(text)


def _write_session(row: SessionRow) -> Sequence[object]:
    return row.number, row.client_id, row.expiry, row.ended_at, row.owner


def _write_subscription(row: SubscriptionRow) -> Sequence[object]:
    of = row.subscription
    handling = int(of.retain_handling)
    return row.session, of.topic_filter, of.qos, of.no_local, of.retain_as_published, handling, row.identifier


def _read_subscription(values: Any) -> SubscriptionRow:
    session, topic_filter, qos, no_local, as_published, handling, identifier = values
    subscription = Subscription(topic_filter, qos, bool(no_local), bool(as_published), RetainHandling(handling))
    return SubscriptionRow(session, subscription, identifier)


def _write_message(row: MessageRow) -> Sequence[object]:
    return row.number, row.topic, row.expires_at, _to_json(row.properties), row.payload


def _read_message(values: Any) -> MessageRow:
    number, topic, expires_at, properties, payload = values
    return MessageRow(number, topic, payload, _from_json(properties), expires_at)


def _write_queued(row: QueuedRow) -> Sequence[object]:
    identifiers = _encode_json(row.identifiers).decode() if row.identifiers else None
    shared_filter = row.shared_filter or None
    return (
        row.number, row.session, row.message, row.qos, row.retain, identifiers, shared_filter, row.packet_id,
        row.released,
    )  # fmt: skip


def _read_queued(values: Any) -> QueuedRow:
    number, session, message, qos, retain, identifiers, shared_filter, packet_id, released = values
    return QueuedRow(
        number, session, message, qos, bool(retain), () if identifiers is None else _decode_identifiers(identifiers),
        shared_filter or "", packet_id, bool(released),
    )  # fmt: skip


def _write_incoming(row: IncomingRow) -> Sequence[object]:
    return row.session, row.packet_id


def _write_retained(row: RetainedRow) -> Sequence[object]:
    return row.topic, row.qos, row.expires_at, _to_json(row.properties), row.payload, row.sender


def _read_retained(values: Any) -> RetainedRow:
    topic, qos, expires_at, properties, payload, sender = values
    return RetainedRow(topic, payload, qos, _from_json(properties), expires_at, sender)


def _write_will(row: WillRow) -> Sequence[object]:
    return (
        row.number, row.client_id, row.username, row.address, row.listener, row.delay, row.due, row.topic, row.qos,
        row.retain, _to_json(row.properties), row.payload,
        _encode_json(row.attributes).decode() if row.attributes else None,
    )  # fmt: skip


def _read_will(values: Any) -> WillRow:
    number, client_id, username, address, listener, delay, due, topic, qos, retain, properties, payload, told = values
    return WillRow(
        number, client_id, username, address, listener, topic, payload, qos, bool(retain), delay, due,
        _from_json(properties), {} if told is None else _decode_attributes(told),
    )  # fmt: skip


def _weigh(row: MessageRow | RetainedRow | WillRow) -> int:
    return len(row.payload)


TABLES: Final[dict[type[Row], Table]] = {
    SessionRow: Table(
        "sessions",
        "number, client_id, expiry, ended_at, owner",
        "number",
        _write_session,
        lambda values: SessionRow(*values),
    ),
    SubscriptionRow: Table(
        "subscriptions",
        "session, topic_filter, qos, no_local, retain_as_published, retain_handling, identifier",
        "session, topic_filter",
        _write_subscription,
        _read_subscription,
    ),
    MessageRow: Table(
        "messages",
        "number, topic, expires_at, properties, payload",
        "number",
        _write_message,
        _read_message,
        weigh=_weigh,
    ),
    QueuedRow: Table(
        "queued",
        "number, session, message, qos, retain, identifiers, shared_filter, packet_id, released",
        "number",
        _write_queued,
        _read_queued,
    ),
    IncomingRow: Table(
        "incoming_qos2",
        "session, packet_id",
        "session, packet_id",
        _write_incoming,
        lambda values: IncomingRow(*values),
    ),
    RetainedRow: Table(
        "retained",
        "topic, qos, expires_at, properties, payload, sender",
        "topic",
        _write_retained,
        _read_retained,
        weigh=_weigh,
    ),
    WillRow: Table(
        "wills",
        "number, client_id, username, address, listener, delay, due, topic, qos, retain, properties, payload, "
        "attributes",
        "number",
        _write_will,
        _read_will,
        weigh=_weigh,
    ),
}
