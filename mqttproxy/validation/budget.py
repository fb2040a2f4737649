"""Whether a payload can be judged, and its failures told, without holding the event loop (`BAD-INPUT` F7, F8).

Estimates are upper bounds in nanoseconds. A payload whose judging would be dearer than the budget fails with keyword
`cost`; one whose explanation would be dearer is explained less exactly.
"""

from typing import Final

from attrs import frozen

from mqttproxy.validation.gate import Measure
from mqttproxy.validation.nodes import Cost, Node, Table, reachable

JUDGING: Final = 20_000_000.0  # nanoseconds for one payload; the loop may be held 50 ms in all
EXPLAINING: Final = 20_000_000.0

_HUGE_MULTIPLE: Final = 16_500.0  # `multipleOf` of a number like 1e308
_HUGE_BYTES: Final = 6  # its shortest text with a comma
_VALUE_BYTES: Final = 2  # the same of any value
_NAMES: Final = 100.0  # one value copied because a member's name is wrong
_UNEVALUATED: Final = 10.0  # times as much, when a schema asks what was evaluated


@frozen
class Plan:
    """What judging by one schema costs. All of it is an upper bound."""

    table: Table
    text: float  # nanoseconds for each byte
    multiples: int  # how many `multipleOf` may judge the same number
    free_bytes: int  # no payload of this size or less can exceed the budget

    def judging(self, measure: Measure, size: int) -> float:
        """Return the most that judging a payload of so many bytes can cost."""
        return _cost(self.table, measure) + self.text * size + self.multiples * _HUGE_MULTIPLE * measure.large


def make_plan(node: Node, table: Table) -> Plan:
    """Compute the plan of a schema from its table of `Node.judging`."""
    nodes = reachable(node)
    costs = [inner.judging() for inner in nodes]
    asks = any("unevaluatedProperties" in inner.schema or "unevaluatedItems" in inner.schema for inner in nodes)
    factor = _UNEVALUATED if asks else 1.0
    # jsonschema-rs remembers what it has found out about a value, so no node judges one twice.
    own, deep, text = (sum(figures) for figures in zip(*costs, strict=True))
    table = [Cost(min(level.own, own) * factor, min(level.deep, deep), 0.0) for level in table]
    multiples = sum("multipleOf" in inner.schema for inner in nodes)
    per_value = max(level.own for level in table) + sum(level.deep for level in table)
    per_byte = text + multiples * _HUGE_MULTIPLE / _HUGE_BYTES + per_value / _VALUE_BYTES
    return Plan(table, text, multiples, int(JUDGING / (per_byte + 1.0)))


def explaining(table: Table, measure: Measure, size: int, *, names_matter: bool) -> float:
    """Return the most that telling all failures can cost.

    Args:
        table: of the schema, from `Node.explaining`.
        measure: of the value.
        size: of the value in bytes.
        names_matter: the schema looks at names of members; each wrong one copies the whole object.

    """
    values = sum(measure.levels)
    cost = _NAMES * values * values if names_matter else 0.0
    return cost + _cost(table, measure) + size * sum(level.text for level in table[: len(measure.levels)])


def _cost(table: Table, measure: Measure) -> float:
    levels = measure.levels
    return sum(
        cost.own * count + cost.deep * sum(levels[depth:])
        for depth, (cost, count) in enumerate(zip(table, levels, strict=False))
    )
