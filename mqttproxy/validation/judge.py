"""The judge: one pure function that everything asks, so that enforcement, dry run and explanations cannot disagree."""

from msgspec.structs import replace

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message
from mqttproxy.validation.checks import Case
from mqttproxy.validation.generation import Rules, Scope
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.verdict import Failure, Verdict


def judge(message: Message, identity: Identity, generation: Rules) -> Verdict:
    """Return what is to be done with a message, and why: a device's by the generation, an upstream's by its `down`.

    Good messages of the same policies all get the same verdict. Policies are found by the effective topic name and the
    sender alone; nothing else in the message can choose weaker ones (`BAD-INPUT` F13).
    """
    scope = generation.scopes.get(message.topic) or generation.scope_of(message.topic)
    if scope.contract is None and scope.candidates:
        scope = generation.scope_for(scope, identity)
    if scope.contract is not None:
        failures = scope.contract.failures(message.payload)
        return replace(scope.failed, failures=failures) if failures else scope.passed
    if message.properties is not NO_PROPERTIES and (broken := refused_as_text(message, scope)) is not None:
        return broken
    return scope.judge(Case(message, identity)) if scope.seats else scope.passed


def refused_as_text(message: Message, scope: Scope) -> Verdict | None:
    """Hold a payload against its payload format indicator. [MQTT 5.0, 3.3.2.3.2].

    Returns:
        What refuses it; None: it is as it says, it says nothing, or those who judge it notice by themselves.

    """
    if message.properties.payload_format_indicator != 1 or scope.reads_text or scope.passed.failures:
        return None
    try:
        message.payload.decode()
    except UnicodeDecodeError as error:
        words = f"said to be UTF-8, but byte 0x{message.payload[error.start]:02x} at offset {error.start} is not"
        return replace(scope.failed, failures=(Failure("", "utf-8", words),))
    return None
