"""Messages that came before, found by their identifiers: those that are held, and those that were recorded."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from attrs import frozen
from msgspec.structs import replace

from mqttproxy.config.case_files import UPSTREAM
from mqttproxy.explain import Premises, identity_of, message_of, sender
from mqttproxy.explain.walk import Direction
from mqttproxy.mqtt.packets import Message
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.database import DATABASE, quarantine_dir
from mqttproxy.quarantine.model import Record
from mqttproxy.recorder import Recorded
from mqttproxy.recorder.reading import Playback
from mqttproxy.validation import Identity

FOUND_NOT: Final = "no such message is held, or was recorded; what is carried is recorded only while [recorder] is on"
ANEW: Final = "explained under the configuration as it is now, from what is stored of the message"


class FoundNotError(LookupError):
    """There is no such message; in words."""


@frozen
class Past:
    """A message that came before. `recorded`: what became of it then, if it was recorded."""

    message: Message
    identity: Identity
    direction: Direction
    notes: tuple[str, ...]
    recorded: Recorded | None = None


def find(identifier: str, premises: Premises) -> Past:
    """Return the message of an identifier: that of the quarantine, its `mp-id`, or its row in the recorder.

    Raises:
        FoundNotError: there is none.
        NoSuchSenderError: the configuration does not know where a held one came from any more.
        OSError, sqlite3.Error: it cannot be read.

    """
    found = _find_held(identifier, premises) or _find_recorded(identifier, premises)
    if found is None:
        raise FoundNotError(f"{identifier}: {FOUND_NOT}")
    return found


def past_lines(recorded: Recorded) -> Iterator[str]:
    """Yield what became of a recorded message then, for people."""
    told = recorded.told
    to = f", to {', '.join(told.destinations)}" if told.destinations else ""
    by = f", by policy {told.policy}" if told.policy is not None and told.failures else ""
    yield f"{_time(recorded.at)}: {told.action}{by}{to}, under generation {told.generation}"
    if recorded.id is not None:
        yield f"mp-id {recorded.id}"
    for pointer, keyword, words in told.failures:
        yield f"  {f'at {pointer} ' if pointer else ''}({keyword}): {words}"


def past_document(recorded: Recorded) -> dict[str, Any]:
    """Return the same as JSON types."""
    told = recorded.told
    return {
        "id": recorded.id,
        "row": recorded.seq,
        "at": _time(recorded.at),
        "action": told.action,
        "policy": told.policy,
        "schema": told.schema,
        "failures": [
            {"pointer": pointer, "keyword": keyword, "message": words} for pointer, keyword, words in told.failures
        ],
        "destinations": list(told.destinations),
        "generation": told.generation,
        "masked": told.masked,
    }


def _find_held(identifier: str, premises: Premises) -> Past | None:
    directory = quarantine_dir(premises.config.proxy.data_dir)
    if not (directory / DATABASE).exists():
        return None
    with Archive(directory) as archive:
        record = archive.get(identifier.upper())
        payload = None if record is None else archive.payload(record)
    if record is None or payload is None:
        return None
    identity = sender(
        premises.config,
        client_id=record.client_id,
        username=record.username,
        address=record.address,
        listener=record.listener,
    )
    if record.attributes:
        identity = replace(identity, attributes=record.attributes)
    message = Message(record.topic, payload, record.qos, record.retain, record.properties)
    is_down = record.listener.startswith(UPSTREAM)
    return Past(message, identity, "down" if is_down else "up", tuple(_notes_of_held(record, premises)))


def _notes_of_held(record: Record, premises: Premises) -> Sequence[str]:
    why = f"policy {record.policy}" if record.policy else "no policy"
    notes = [f"held by {why}; {ANEW}"]
    if record.attributes:
        notes.append("the sender's attributes are those that it had then")
    elif any(entry.source == "connect_property" for entry in premises.config.access.attributes):
        notes.append("no attributes are stored with it: those that come from properties of CONNECT are missing here")
    return notes


def _find_recorded(identifier: str, premises: Premises) -> Past | None:
    try:
        with Playback(premises.config.proxy.data_dir) as playback:
            recorded = playback.get(identifier)
    except FileNotFoundError:
        return None
    if recorded is None:
        return None
    notes = [f"{ANEW}; the sender's attributes are those that it had then"]
    if recorded.told.masked == "wholly":
        notes.append("its payload was masked as a whole: what depends on it cannot be told")
    elif recorded.told.masked == "partly":
        notes.append("what masks name is changed in its payload: it may have been judged otherwise when it came")
    return Past(message_of(recorded), identity_of(recorded), "up", tuple(notes), recorded)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
