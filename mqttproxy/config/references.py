"""How settings name a schema: `subject@1`, `subject@stable`, `subject@>=1,<3`."""

import operator
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import attrs
from attrs import frozen

if TYPE_CHECKING:  # the model is made of this
    from mqttproxy.config.model import ProxyConfig

WORDS: Final = 'subject@version such as "temperature@1", "temperature@stable" or "temperature@>=1,<3"'

# Both become parts of a path: no separators, nothing that begins with a dot.
PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")

_CONDITION: Final = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\d{1,18}(?:\.\d{1,18}){0,7})\s*")
_NUMBER: Final = re.compile(r"\d{1,18}(?:\.\d{1,18}){0,7}")
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}

Number = tuple[int, ...]


@frozen
class Reference:
    """A schema as a setting names it. `conditions`: of a range; empty: `spec` is a version or an alias."""

    subject: str
    spec: str
    conditions: tuple[tuple[str, Number], ...] = ()

    def admits(self, version: str) -> bool:
        """Return whether a version is in the range; one that is not a number is in none."""
        number = number_of(version)
        return number is not None and all(_holds(how, number, bound) for how, bound in self.conditions)


def parse_reference(text: str) -> Reference | None:
    """Return the reference that is written so, or None: it is not one."""
    subject, at, spec = text.partition("@")
    if not at or not PART.fullmatch(subject):
        return None
    if PART.fullmatch(spec):
        return Reference(subject, spec)
    conditions = []
    for part in spec.split(","):
        if (found := _CONDITION.fullmatch(part)) is None:
            return None
        conditions.append((found[1], number_from(found[2])))
    return Reference(subject, spec, tuple(conditions))


def number_of(version: str) -> Number | None:
    """Return a version such as `2` or `1.2.3` as a number that can be compared, or None: it is a word."""
    return number_from(version) if _NUMBER.fullmatch(version) else None


def number_from(text: str) -> Number:
    """Return the number without zeros at its end: `1.0` is `1`."""
    parts = [int(part) for part in text.split(".")]
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return tuple(parts)


def schema_references(settings: Any, key: str = "") -> list[tuple[str, str]]:
    """Return key and text of every setting called `schema`, wherever it stands: all that names a schema.

    Args:
        settings: the whole configuration, or a table of it.
        key: of that table, for words.

    """
    found = []
    for attribute in attrs.fields(type(settings)):
        value = getattr(settings, attribute.name)
        inner = f"{key}.{attribute.name}" if key else attribute.name
        if attribute.name == "schema" and isinstance(value, str):
            found.append((inner, value))
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if attrs.has(type(item)):
                    found += schema_references(item, f"{inner}[{index}]")
        elif attrs.has(type(value)):
            found += schema_references(value, inner)
    return found


def candidate_keys(config: "ProxyConfig") -> Iterator[str]:
    """Yield the keys of the settings that name schemas of candidates: what only they name is not in force."""
    candidates = {policy.shadow.policy for policy in config.policies}
    for index, policy in enumerate(config.policies):
        yield f"policies[{index}].shadow.schema"
        if policy.name in candidates:
            yield f"policies[{index}].schema"


def _holds(how: str, number: Number, bound: Number) -> bool:
    return _COMPARE[how](number, bound)
