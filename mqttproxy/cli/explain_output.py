"""How an explanation is written: for people, and for programs. Payloads are never shown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mqttproxy.cli.explain_past import Past, past_document, past_lines
from mqttproxy.explain import Explanation
from mqttproxy.explain.walk import Destination
from mqttproxy.validation import Failure
from mqttproxy.validation.trace import Step

_RULES = {
    "topics.allowed": "devices may not publish to this topic (topics.allowed)",
    "default.action": "no policy covers this topic: default.action decides",
    "level of the policy": "the policies of this topic are off: nothing is judged",
    "payload format indicator": "the payload is not the text that it is said to be (payload format indicator)",
    "": "",
}
_ANSWERS = {1: "PUBACK", 2: "PUBREC"}


def lines(explanation: Explanation, past: Past | None = None) -> Iterator[str]:
    """Yield an explanation for people; what a device sent is not made printable yet."""
    notes = past.notes if past is not None else ()
    then = list(past_lines(past.recorded)) if past is not None and past.recorded is not None else []
    yield from _blocks(
        [
            *([("then", then)] if then else []),
            ("message", [_message_words(explanation)]),
            ("sender", list(_sender_words(explanation))),
            ("topic", [_topic_words(explanation)]),
            *((f"{number}.", list(_step_words(step))) for number, step in enumerate(explanation.trace.steps, 1)),
            ("verdict", [_verdict_words(explanation)]),
            ("goes to", [_destination_words(one) for one in explanation.destinations] or [_nowhere(explanation)]),
            ("answer", list(_answer_words(explanation))),
            *(("note", [note]) for note in notes),
        ]
    )


def _blocks(blocks: Iterable[tuple[str, Sequence[str]]]) -> Iterator[str]:
    for title, rows in blocks:
        for index, row in enumerate(rows):
            yield f"{title if not index else '':<9}{row}".rstrip()


def _message_words(explanation: Explanation) -> str:
    message = explanation.message
    size = len(message.payload)
    way = "from a device" if explanation.direction == "up" else "from an upstream"
    retain = ", retained" if message.retain else ""
    return f"{way} on {message.topic}, {size} byte{'s' * (size != 1)}, QoS {message.qos}{retain}"


def _sender_words(explanation: Explanation) -> Iterator[str]:
    identity = explanation.identity
    if explanation.direction == "down":
        yield f"upstream {identity.address}"
        return
    user = f", user {identity.username}" if identity.username is not None else ""
    address = f", address {identity.address}" if identity.address else ""  # nobody's, where a message is made up
    yield f"client {identity.client_id}{user}, listener {identity.listener}{address}"
    if identity.attributes:
        yield "attributes " + _pairs(identity.attributes)


def _pairs(pairs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in pairs.items())


def _topic_words(explanation: Explanation) -> str:
    if explanation.fate in ("refuse", "drop") and explanation.why:
        return explanation.why
    return _RULES[explanation.trace.rule] or "may be published; policies decide"


def _step_words(step: Step) -> Iterator[str]:
    state = {"failed": "FAILED", "off": "not judged"}.get(step.outcome, step.outcome)
    if step.outcome in ("passed", "failed"):
        state += ", enforced" if step.enforced else ", only observed"
    yield f"policy {step.policy}: {state} ({step.why})"
    if step.captures:
        yield f"  captures {_pairs(step.captures)}"
    for bound in step.bindings:
        yield f"  binding to schema {bound.schema}: {f'no, {bound.why_not}' if bound.why_not else 'holds'}"
    if step.bindings and step.bindings[-1].why_not:
        yield "  no binding fits: the schema of the policy"
    if step.verdict is not None:
        if step.verdict.schema is not None:
            yield f"  schema {step.verdict.schema}"
        yield from (f"  {_failure_words(failure)}" for failure in step.verdict.failures)


def _failure_words(failure: Failure) -> str:
    place = f"at {failure.pointer} " if failure.pointer else ""
    return f"{place}({failure.keyword}): {failure.message}"


def _verdict_words(explanation: Explanation) -> str:
    verdict = explanation.trace.verdict
    by = f", by policy {verdict.policy}" if verdict.policy is not None and not explanation.why else ""
    schema = f", schema {verdict.schema}" if by and verdict.schema is not None else ""
    alert = ", with an alert" if verdict.alert and not explanation.why else ""
    return f"{explanation.fate}{by}{schema}{alert}"


def _destination_words(destination: Destination) -> str:
    if destination.topic is None:
        return f"{destination.name}, {destination.why_not}: held for that one"
    if destination.name == "local":
        return f"devices that are subscribed to {destination.topic}"
    return f"upstream {destination.name}, as {destination.topic}"


def _nowhere(explanation: Explanation) -> str:
    return "the quarantine" if explanation.fate == "hold" else "nobody"


def _answer_words(explanation: Explanation) -> Iterator[str]:
    answer = _ANSWERS.get(explanation.message.qos)
    if answer is None:
        yield "none: QoS 0 is not acknowledged"
    else:
        reason = explanation.reason
        plain = " (in MQTT 3.1.1 without the reason)" if reason.is_failure else ""
        yield f"{answer} 0x{reason:02X} {_name(explanation)}{plain}, {explanation.ack}"
        if explanation.words:
            yield f"reason string: {explanation.words}"
    if explanation.error_topic is not None:
        yield f"error document on {explanation.error_topic}"
    if _disconnects(explanation):
        yield "the connection is closed"


def _name(explanation: Explanation) -> str:
    return explanation.reason.name.lower().replace("_", " ")


def _disconnects(explanation: Explanation) -> bool:
    return explanation.trace.verdict.disconnect and not explanation.why and explanation.direction == "up"


def as_document(explanation: Explanation, past: Past | None = None) -> dict[str, Any]:
    """Return an explanation as JSON types."""
    recorded = past.recorded if past is not None else None
    message, identity, verdict = explanation.message, explanation.identity, explanation.trace.verdict
    return {
        "direction": explanation.direction,
        "topic": message.topic,
        "payload_size": len(message.payload),
        "qos": message.qos,
        "retain": message.retain,
        "client_id": identity.client_id,
        "username": identity.username,
        "listener": identity.listener,
        "address": identity.address or None,
        "attributes": dict(identity.attributes),
        "rule": explanation.trace.rule,
        "steps": [_step_document(step) for step in explanation.trace.steps],
        "verdict": explanation.fate,
        "carried": explanation.is_carried,
        "why": explanation.why,
        "policy": verdict.policy,
        "schema": verdict.schema,
        "failures": _failures(verdict.failures),
        "alert": verdict.alert,
        "disconnect": _disconnects(explanation),
        "reason_code": int(explanation.reason),
        "reason": _name(explanation),
        "reason_string": explanation.words,
        "acknowledged": explanation.ack,
        "error_topic": explanation.error_topic,
        "destinations": [{"name": one.name, "topic": one.topic} for one in explanation.destinations],
        "then": past_document(recorded) if recorded is not None else None,
        "notes": list(past.notes) if past is not None else [],
    }


def _step_document(step: Step) -> dict[str, Any]:
    return {
        "policy": step.policy,
        "outcome": step.outcome,
        "enforced": step.enforced,
        "why": step.why,
        "captures": dict(step.captures),
        "bindings": [
            {"schema": bound.schema, "holds": not bound.why_not, "why": bound.why_not} for bound in step.bindings
        ],
        "schema": step.verdict.schema if step.verdict is not None else None,
        "failures": _failures(step.verdict.failures if step.verdict is not None else ()),
    }


def _failures(failures: Iterable[Failure]) -> list[dict[str, str]]:
    return [{"pointer": one.pointer, "keyword": one.keyword, "message": one.message} for one in failures]
