"""Checks that operators bring along, as Python entry points: what they are asked, and the answers that were given.

Such a check runs in a process of its own, which a judge cannot wait for. So it judges by `Answers`, which were asked
for before (`asking`): what it finds no answer for fails, and is noted there as missing.
"""

import json
from typing import ClassVar, Final

from attrs import Factory, define, frozen
from msgspec import Struct

from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.plugin.view import ENCODER, GROUP, Properties, Request, Sender, View
from mqttproxy.validation.checks import Case, Decode
from mqttproxy.validation.gate import PayloadError
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.policy import Captures
from mqttproxy.validation.verdict import Failure

FAULT: Final = "plugin-fault"  # keyword of a message that a check could not judge
_NOT_ASKED: Final = (Failure("", FAULT, "no plug-in was asked about the message"),)


class Question(Struct, frozen=True):
    """A message before one plug-in. `seconds`: that it may take. `request` holds all that the answer depends on."""

    plugin: str
    seconds: float
    request: bytes


@define(eq=False)
class Answers:
    """What plug-ins have said of some messages, and what was looked for here in vain."""

    known: dict[Question, tuple[Failure, ...]] = Factory(dict)
    missing: dict[Question, None] = Factory(dict)  # in order

    def of(self, question: Question) -> tuple[Failure, ...]:
        """Return what is wrong. What nobody has said yet is: this fails closed."""
        found = self.known.get(question)
        if found is None:
            self.missing[question] = None
            return _NOT_ASKED
        return found

    def take_missing(self) -> list[Question]:
        """Return what is missing, which is about to be asked."""
        missing, self.missing = list(self.missing), {}
        return missing


class _Silent(Answers):
    """Answers of nobody, where plug-ins are not asked: they judged the message when it came."""

    def of(self, question: Question) -> tuple[Failure, ...]:  # noqa: ARG002 # whatever it is
        return ()


ASKED_BEFORE: Final = _Silent()


@frozen(eq=False)
class PluginCheck:
    """The message must please a plug-in. `decode`: what makes a document of the payload, None: it has none."""

    name: str
    seconds: float
    captures: Captures
    decode: Decode | None
    is_json: bool  # the payload is the document's text
    reason: ClassVar[ReasonCode] = ReasonCode.PAYLOAD_FORMAT_INVALID
    reads_text: ClassVar[bool] = False

    def failures(self, case: Case) -> tuple[Failure, ...]:
        """Return what is wrong, or why the payload cannot be read."""
        text = None
        try:
            if self.decode is not None:
                document = case.document(self.decode)
                text = None if self.is_json else json.dumps(document).encode()
        except PayloadError as error:
            return error.failures
        if case.answers is None:
            return _NOT_ASKED
        message = case.message
        view = View(
            topic=message.topic,
            payload=message.payload,
            captures=self.captures.of(message.topic),
            properties=_properties(message),
            sender=_sender(case.identity),
            has_document=self.decode is not None,
            text=text,
        )
        return case.answers.of(Question(self.name, self.seconds, ENCODER.encode(Request(self.seconds, view))))


def installed() -> tuple[str, ...]:
    """Return the names of the plug-ins that are installed, in order."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - 2 MB that only a start with plug-ins needs

    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def _properties(message: Message) -> Properties:
    given = message.properties
    return Properties(
        qos=message.qos,
        retain=message.retain,
        content_type=given.content_type,
        response_topic=given.response_topic,
        correlation_data=given.correlation_data,
        payload_format_indicator=given.payload_format_indicator,
        expiry=given.message_expiry_interval,
        user=given.user_properties,
    )


def _sender(identity: Identity) -> Sender:
    return Sender(identity.client_id, identity.username, identity.address, identity.listener, identity.attributes)
