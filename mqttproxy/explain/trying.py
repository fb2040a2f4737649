"""Cases held against what would happen, one after the other."""

from collections.abc import Iterable

import orjson
from attrs import frozen

from mqttproxy.config.case_files import LoadedCase
from mqttproxy.config.cases import GivenSettings
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


def _list(texts: Iterable[str]) -> str:
    return orjson.dumps(list(dict.fromkeys(texts))).decode()[:_LONGEST]


def _hint(case: LoadedCase) -> str:
    return f"the case is {quoted(case.settings.name)}"
