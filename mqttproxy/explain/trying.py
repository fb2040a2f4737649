"""Cases held against what would happen, one after the other."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from attrs import frozen

from mqttproxy.config.case_files import LoadedCase
from mqttproxy.config.cases import ExpectSettings, GivenSettings
from mqttproxy.config.errors import Fault, quoted
from mqttproxy.explain.coverage import Coverage
from mqttproxy.explain.sender import NoSuchSenderError, sender
from mqttproxy.explain.walk import Explanation, Premises, explain
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties
from mqttproxy.validation.answers import reason_string

_LONGEST: int = 300  # characters of what was found


@frozen
class Tried:
    """One case, and where what would happen differs from what it expects; nowhere: it passed."""

    case: LoadedCase
    explanation: Explanation | None  # None: nobody can send this
    problems: tuple[Fault, ...]


def run(cases: Iterable[LoadedCase], premises: Premises) -> tuple[list[Tried], Coverage]:
    """Try all cases; return what came of each, and what of the rules they have exercised."""
    coverage = Coverage(premises)
    tried = []
    for case in cases:
        try:
            explanation = explain_case(case, premises)
        except NoSuchSenderError as error:
            found = Fault(case.file, f"{case.key}.given", str(error), "a device that can send", _hint(case))
            tried.append(Tried(case, None, (found,)))
            continue
        coverage.note(explanation)
        tried.append(Tried(case, explanation, tuple(_problems(case, explanation))))
    return tried, coverage


def explain_case(case: LoadedCase, premises: Premises) -> Explanation:
    """Return what would happen. Raises NoSuchSenderError."""
    given = case.settings.given
    identity = sender(
        premises.config,
        client_id=given.client_id,
        username=given.username,
        listener=given.listener,
        attributes=given.attributes,
    )
    message = Message(given.topic, case.payload, given.qos, given.retain, properties_of(given))
    return explain(message, identity, premises, given.direction)


def properties_of(given: GivenSettings) -> Properties:
    """Return the properties of a message, as a packet would have them."""
    properties = Properties(
        payload_format_indicator=given.payload_format_indicator,
        message_expiry_interval=None if given.expiry is None else int(given.expiry),
        content_type=given.content_type,
        response_topic=given.response_topic,
        correlation_data=None if given.correlation_data is None else given.correlation_data.encode(),
        user_properties=tuple(given.user_properties),
    )
    return NO_PROPERTIES if properties == NO_PROPERTIES else properties


def _problems(case: LoadedCase, explanation: Explanation) -> Iterable[Fault]:
    expect, verdict = case.settings.expect, explanation.trace.verdict

    def problem(key: str, found: str, expected: str) -> Fault:
        return Fault(case.file, f"{case.key}.expect.{key}", found, expected, _hint(case))

    if explanation.fate != expect.verdict:
        why = explanation.why or (reason_string(verdict) if verdict.failures else "")
        yield problem("verdict", f"{explanation.fate}{f' ({why})' if why else ''}"[:_LONGEST], expect.verdict)
    if expect.policy is not None and verdict.policy != expect.policy:
        yield problem("policy", "none" if verdict.policy is None else quoted(verdict.policy), quoted(expect.policy))
    told = {
        "pointers": (expect.pointers, [failure.pointer for failure in verdict.failures]),
        "keywords": (expect.keywords, [failure.keyword for failure in verdict.failures]),
        "destinations": (expect.destinations, [one.name for one in explanation.destinations]),
    }
    for key, (wanted, found) in told.items():
        if wanted is not None and set(wanted) != set(found):
            yield problem(key, _list(found), _list(wanted))
    for key, wanted_payload, payload in _payloads(expect, explanation):
        if payload is None or not _is_same(wanted_payload, payload):
            yield problem(key, _payload_words(payload), _value_words(wanted_payload))


def _payloads(expect: ExpectSettings, explanation: Explanation) -> Iterator[tuple[str, object, bytes | None]]:
    """Yield each payload that is expected: its key, what it is to be, and what it is; None: there is none."""
    found = {one.name: one.payload for one in explanation.destinations}
    named: Any = expect.payloads or {}
    for name, wanted in named.items():
        yield f"payloads.{name}", wanted, found.get(name)
    if expect.payload is not None:
        others = [payload for name, payload in found.items() if name not in named]
        for payload in dict.fromkeys(others or [None]):
            yield "payload", expect.payload, payload


def _is_same(wanted: object, payload: bytes) -> bool:
    if isinstance(wanted, str):
        return payload == wanted.encode()
    try:
        return bool(_exact(json.loads(payload)) == _exact(wanted))
    except (ValueError, RecursionError):  # it is not JSON
        return False


def _exact(value: Any) -> Any:
    """Return a value that is equal to another only if both are the same JSON: true is not 1, but 1.0 is."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    return [_exact(item) for item in value] if isinstance(value, list | tuple) else value


def _payload_words(payload: bytes | None) -> str:
    if payload is None:
        return "no payload: nothing is carried there"
    try:
        return _cut(payload.decode())
    except UnicodeDecodeError:
        return _cut(f"hex {payload.hex(' ')}")


def _value_words(value: object) -> str:
    return _cut(value if isinstance(value, str) else orjson.dumps(value).decode())


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _list(texts: Iterable[str]) -> str:
    return orjson.dumps(list(dict.fromkeys(texts))).decode()[:_LONGEST]


def _hint(case: LoadedCase) -> str:
    return f"the case is {quoted(case.settings.name)}"
