"""A failed verdict in words: for MQTT 5 acknowledgements, for the error document, for people (promise P10)."""

from collections.abc import Mapping
from typing import Final

from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.validation.verdict import Verdict

FAILURES_TOLD: Final = 16
REASON_STRING_LENGTH: Final = 512  # characters; the state machine leaves it out where the device cannot take it


def reason_string(verdict: Verdict) -> str:
    """Return one sentence that says what is wrong, and where in the payload."""
    rule = f"policy {verdict.policy}" if verdict.policy else "topic rules"
    if verdict.schema:
        rule += f", schema {verdict.schema}"
    first = verdict.failures[0]
    place = f" at {first.pointer}" if first.pointer else ""
    more = f" (and {len(verdict.failures) - 1} more)" if len(verdict.failures) > 1 else ""
    return f"{rule}: {first.message}{place}{more}"[:REASON_STRING_LENGTH]


def answer_properties(verdict: Verdict) -> Properties:
    """Return what an acknowledgement with 0x99 carries: reason string, policy, schema and JSON Pointers."""
    return Properties(reason_string=reason_string(verdict), user_properties=_facts(verdict, ""))


def mark_properties(message: Message, verdict: Verdict) -> Properties:
    """Return the message's properties with the failure added, for a message that is carried although it failed."""
    given = message.properties
    fields: dict[str, object] = {name: getattr(given, name) for name in given.__struct_fields__}
    fields["user_properties"] = (*given.user_properties, *_facts(verdict, "mp-"))
    return Properties(**fields)  # type: ignore[arg-type] # the fields of one Properties fit another


def error_document(
    message: Message, verdict: Verdict, *, action: str, at: str, quarantine_id: str | None
) -> Mapping[str, object]:
    """Return what the device reads on its error topic, as a JSON document.

    Args:
        message: the one that failed.
        verdict: of the judge.
        action: held or refused.
        at: time in UTC, ISO 8601.
        quarantine_id: where the message is kept, if it is.

    """
    document: dict[str, object] = {
        "at": at,
        "action": action,
        "topic": message.topic,
        "reason_code": int(verdict.reason),
        "reason": reason_string(verdict),
        "policy": verdict.policy,
        "schema": verdict.schema,
        "failures": [
            {"pointer": failure.pointer, "keyword": failure.keyword, "message": failure.message}
            for failure in verdict.failures[:FAILURES_TOLD]
        ],
        "quarantine_id": quarantine_id,
    }
    if verdict.parts:
        document["policies"] = [part.policy for part in verdict.told]
    return document


def _facts(verdict: Verdict, prefix: str) -> tuple[tuple[str, str], ...]:
    """Return policy, schema and pointers; of several policies one after the other."""
    facts = []
    left = FAILURES_TOLD
    for part in verdict.told:
        if left <= 0:
            break
        if part.policy:
            facts.append((prefix + "policy", part.policy))
        if part.schema:
            facts.append((prefix + "schema", part.schema))
        facts.extend((prefix + "pointer", failure.pointer) for failure in part.failures[:left])
        left -= len(part.failures)
    return tuple(facts)
