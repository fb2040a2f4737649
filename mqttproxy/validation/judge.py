"""The judge: one pure function that everything asks, so that enforcement, dry run and explanations cannot disagree."""

from msgspec.structs import replace

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message
from mqttproxy.validation.generation import Rules
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.verdict import Failure, Verdict


def judge(message: Message, identity: Identity, generation: Rules) -> Verdict:  # noqa: ARG001 - for rules that ask who
    """Return what is to be done with a message, and why: a device's by the generation, an upstream's by its `down`.

    Good messages of a policy all get the same verdict. The policy is found by the effective topic name alone; nothing
    else in the message can choose a weaker one (`BAD-INPUT` F13).
    """
    scope = generation.scopes.get(message.topic) or generation.scope_of(message.topic)
    if scope.contract is not None:
        failures = scope.contract.failures(message.payload)
        return replace(scope.failed, failures=failures) if failures else scope.passed
    if message.properties is not NO_PROPERTIES and not scope.passed.failures:
        failures = _broken_text(message)
        if failures:
            return replace(scope.failed, failures=failures)
    return scope.passed


def _broken_text(message: Message) -> tuple[Failure, ...]:
    """Hold a payload against its payload format indicator. [MQTT 5.0, 3.3.2.3.2]."""
    if message.properties.payload_format_indicator != 1:
        return ()
    try:
        message.payload.decode()
    except UnicodeDecodeError as error:
        words = f"said to be UTF-8, but byte 0x{message.payload[error.start]:02x} at offset {error.start} is not"
        return (Failure("", "utf-8", words),)
    return ()
