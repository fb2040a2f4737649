"""Conditions in CEL, compiled at load, judged within a budget. Imported only where a policy has one.

The engine counts iterations, at most 10,000, but not what each of them costs: `map` copies its list every time, `in`
walks a list, `+` copies. So what an expression can cost is estimated from its text and the size of the message, as an
upper bound, and a message that might hold the loop fails with keyword `cost`. A run-time error comes back from the
engine as a value that Python takes for true: only a value of CEL's own type BOOL counts (`BAD-INPUT` F, promise P7).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from attrs import define, frozen
from cel_expr_python import cel

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.validation.budget import JUDGING
from mqttproxy.validation.checks import Case, Decode
from mqttproxy.validation.gate import PayloadError
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.policy import Captures
from mqttproxy.validation.verdict import Failure
from mqttproxy.validation.words import MESSAGE_LENGTH, printable

_BOOL: Final = cel.Type.BOOL
_ENGINE: Final = cel.NewEnv(
    variables={
        "payload": cel.Type.DYN,
        "topic": cel.Type.STRING,
        "captures": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
        "properties": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
        "identity": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
    }
)
MOST_ROUNDS: Final = 10_000  # iterations of one evaluation, the engine's own bound

_PLACE: Final = re.compile(r"<input>:(\d+):(\d+): (.*)")
# What stands in an expression, which is the operator's: string literals are cut out first.
_STRING: Final = re.compile(
    r"""[rRbB]{0,2}(?:\'\'\'.*?\'\'\'|\"\"\".*?\"\"\"|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")""", re.DOTALL
)
_ROUNDS: Final = re.compile(r"\.\s*(?:all|exists|exists_one|existsOne|map|filter|transform\w*)\s*\(")
_STEPS: Final = re.compile(r"[-+*/%<>!=&|?]+|\(|\[|\.|\bin\b")
_COMPARES: Final = re.compile(r"==|!=")
_LITERAL: Final = r"(?:''|-?\b[0-9][\w.]*|\btrue\b|\bfalse\b|\bnull\b)"
_COMPARES_LITERAL: Final = re.compile(rf"{_LITERAL}\s*(?:==|!=)|(?:==|!=)\s*{_LITERAL}")
_MATCHES: Final = re.compile(r"\bmatches\s*\(")
_MATCHES_LITERAL: Final = re.compile(r"\.\s*matches\s*\(\s*''\s*\)|(?<![.\w])matches\s*\([^()]*,\s*''\s*\)")
# For each thing that looks at whole values: nanoseconds for each value and each byte.
_LINEAR: Final[tuple[tuple[re.Pattern[str], float, float], ...]] = (
    (re.compile(r"\.\s*(?:map|filter|transform\w*)\s*\("), 300.0, 0.0),
    (re.compile(r"\bin\b(?!\s*\[)"), 100.0, 1.0),
    (_COMPARES, 200.0, 1.0),
    (_COMPARES_LITERAL, -200.0, -1.0),  # which tells at once
    (re.compile(r"\+"), 200.0, 10.0),
    (_MATCHES, 0.0, 150.0),
    (re.compile(r"\b(?!(?:matches|all|exists|exists_one|map|filter|has)\b)[A-Za-z_]\w*\s*\("), 200.0, 10.0),
)
_STEP: Final = 600.0  # nanoseconds
_VALUE: Final = 500.0  # for handing a value over
_BYTE: Final = 5.0


class ExpressionError(ValueError):
    """An expression cannot be used. `place` is where, in words; its text says why."""

    def __init__(self, place: str, words: str) -> None:
        super().__init__(words)
        self.place = place


@define(eq=False)
class ExpressionCheck:
    """A condition that a message must meet."""

    text: str
    words: str  # what a message that fails is told
    captures: Captures
    decode: Decode | None  # of the payload; None: it is not asked for
    budget: float  # nanoseconds
    _compiled: cel.Expression
    _cost: "Cost"
    _asks_properties: bool
    reason: ClassVar[ReasonCode] = ReasonCode.PAYLOAD_FORMAT_INVALID
    reads_text: ClassVar[bool] = False

    def failures(self, case: Case) -> tuple[Failure, ...]:
        """Return what is wrong, at most one thing; or why the payload cannot be read."""
        message = case.message
        values = _values(message.payload) if self.decode else 0
        size = len(message.topic) + (len(message.payload) if self.decode else 0)
        if self._asks_properties and message.properties is not NO_PROPERTIES:
            size += _weight(message.properties)
        if self._cost.of(values, size) > self.budget:
            words = f"{size} bytes with up to {values} values are too much to be judged quickly by this expression"
            return (Failure("", "cost", words),)
        try:
            document = case.document(self.decode) if self.decode else None
        except PayloadError as error:
            return error.failures
        return self._evaluate(case, document)

    def _evaluate(self, case: Case, document: object) -> tuple[Failure, ...]:
        try:
            found = self._compiled.eval(data=self._variables(case, document))
            if found.type() == _BOOL:
                return () if found.value() else (Failure("", "expression", self.words),)
            why = str(found.value()).partition(": ")[2] or "neither true nor false"
        except RuntimeError as error:  # of the engine: too many iterations, numbers that do not fit
            why = str(error).partition(": ")[2]
        return (Failure("", "expression", printable(f"{self.words} (it cannot be told: {why})", MESSAGE_LENGTH)),)

    def _variables(self, case: Case, document: object) -> dict[str, Any]:
        message = case.message
        return {
            "payload": document,
            "topic": message.topic,
            "captures": dict(self.captures.of(message.topic)),
            "properties": _properties(message) if self._asks_properties else {},
            "identity": _identity(case.identity),
        }


@frozen
class Cost:
    """What an expression can cost, in nanoseconds."""

    steps: int
    rounds: int  # macros that walk a list
    for_value: float
    for_byte: float

    def of(self, values: int, size: int) -> float:
        """Return the most that a message of so many values and bytes can cost."""
        once = self.steps * _STEP + self.for_value * values + self.for_byte * size
        rounds = min(max(values, 1) ** min(self.rounds, 3) * max(self.rounds, 1), MOST_ROUNDS) if self.rounds else 1
        return once * rounds + _VALUE * values + _BYTE * size


def compile_expression(
    text: str, words: str | None, captures: Captures, decode: Decode, share: float
) -> ExpressionCheck:
    """Compile a condition.

    Args:
        text: in CEL.
        words: what a message that fails is told; None: the text.
        captures: of its policy.
        decode: of payloads of its policy.
        share: of the budget of one payload, for there may be several expressions.

    Raises:
        ExpressionError: it is none, it asks for what there is not, or its cost cannot be bounded.

    """
    try:
        compiled = _ENGINE.compile(text)
    except RuntimeError as error:
        raise _told(str(error)) from None
    if compiled.return_type() != _BOOL:
        raise ExpressionError("", f"it gives {compiled.return_type().name()}, not true or false")
    bare = _STRING.sub("''", text)
    _check_captures(text, bare, captures)
    if len(_MATCHES.findall(bare)) > len(_MATCHES_LITERAL.findall(bare)):
        raise ExpressionError("", "what `matches` looks for must stand there as a text, for its cost to be known")
    told = words if words is not None else f"not true: {text}"
    return ExpressionCheck(
        text,
        printable(" ".join(told.split()), MESSAGE_LENGTH),
        captures,
        decode if re.search(r"\bpayload\b", bare) else None,
        JUDGING * share,
        compiled,
        estimate(bare),
        re.search(r"\bproperties\b", bare) is not None,
    )


def estimate(bare: str) -> Cost:
    """Return what an expression, without its string literals, can cost."""
    uses = [(len(pattern.findall(bare)), values, size) for pattern, values, size in _LINEAR]
    return Cost(
        steps=1 + len(_STEPS.findall(bare)),
        rounds=len(_ROUNDS.findall(bare)),
        for_value=sum(count * values for count, values, _ in uses),
        for_byte=sum(count * size for count, _, size in uses),
    )


def _check_captures(text: str, bare: str, captures: Captures) -> None:
    named = re.findall(r"\bcaptures\s*\.\s*(\w+)", bare)
    for name in named:
        if name not in captures.names:
            column = text.find(name, text.find("captures")) + 1
            known = ", ".join(sorted(captures.names)) or "none"
            raise ExpressionError(
                f"line 1, column {column}", f"not every topic filter has {{{name}}}; those that all have: {known}"
            )


def _told(words: str) -> ExpressionError:
    found = _PLACE.search(words)
    if found is None:
        return ExpressionError("", printable(words.partition("\n")[0], MESSAGE_LENGTH))
    return ExpressionError(f"line {found[1]}, column {found[2]}", printable(found[3], MESSAGE_LENGTH))


def _values(payload: bytes) -> int:
    """Return the most values that a JSON payload can hold; bytes and other formats hold fewer than they have bytes."""
    if payload[:1] in (b"{", b"["):
        return payload.count(b",") + payload.count(b"{") + payload.count(b"[") + 1
    return 1 if payload[:1] in (b'"', b"t", b"f", b"n", b"-") or payload[:1].isdigit() else len(payload)


def _weight(properties: Properties) -> int:
    pairs = sum(len(name) + len(value) + 16 for name, value in properties.user_properties)
    others = (properties.content_type, properties.response_topic, properties.correlation_data)
    return pairs + sum(len(value) for value in others if value is not None)


def _properties(message: Message) -> dict[str, object]:
    """Return what an expression knows of a message beside its payload; what the device did not send is not there."""
    given = message.properties
    found: dict[str, object] = {"qos": message.qos, "retain": message.retain, "user": _pairs(given.user_properties)}
    for name in ("content_type", "response_topic", "correlation_data", "payload_format_indicator"):
        if (value := getattr(given, name)) is not None:
            found[name] = value
    if given.message_expiry_interval is not None:
        found["expiry"] = given.message_expiry_interval
    return found


def _pairs(properties: Iterable[tuple[str, str]]) -> Mapping[str, object]:
    """Return user properties by name: the text, or all of them in a list where the name stands more than once."""
    found: dict[str, list[str]] = {}
    for name, value in properties:
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _identity(identity: Identity) -> dict[str, object]:
    return {
        "client_id": identity.client_id,
        "username": identity.username,
        "address": identity.address,
        "listener": identity.listener,
        "attributes": dict(identity.attributes),
    }
