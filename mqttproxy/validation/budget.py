"""Whether a payload can be judged, and its failures told, without holding the event loop (`BAD-INPUT` F7, F8).

Estimates are upper bounds in nanoseconds. A payload whose judging would be dearer than the budget fails with keyword
`cost`; one whose explanation would be dearer is explained less exactly.
"""

from typing import Final

from attrs import frozen

from mqttproxy.validation.gate import Measure
from mqttproxy.validation.nodes import Node, Table, reachable, text_rate

JUDGING: Final = 20_000_000.0  # nanoseconds for one payload; the loop may be held 50 ms in all
EXPLAINING: Final = 20_000_000.0

_HUGE_MULTIPLE: Final = 16_500.0  # `multipleOf` of a number like 1e308
_HUGE_BYTES: Final = 6  # its shortest text with a comma
_VALUE_BYTES: Final = 2  # the same of any value
_COPY_VALUE: Final = 100.0  # one value copied into the description of a failure
_COPY_BYTE: Final = 5.0


@frozen
class Plan:
    """What one schema costs. Lists hold a figure for each depth below it."""

    own: list[float]  # judging: for each value
    deep: list[float]  # judging: for each value below such a value
    text: float  # judging: for each byte
    multiples: int  # how many `multipleOf` may judge the same number
    free_bytes: int  # no payload of this size or less can exceed the budget

    def judging(self, measure: Measure, size: int) -> float:
        """Return the most that judging a payload of so many bytes can cost."""
        cost = self.text * size + self.multiples * _HUGE_MULTIPLE * measure.large
        for depth, count in enumerate(measure.levels):
            cost += _at(self.own, depth) * count + _at(self.deep, depth) * sum(measure.levels[depth:])
        return cost


def make_plan(node: Node, table: Table) -> Plan:
    """Compute the plan of a schema whose tables are known."""
    nodes = reachable(node)
    # jsonschema-rs remembers what it has found out about a value, so no node judges one twice.
    most_own = sum(inner.judging()[0] for inner in nodes)
    most_deep = sum(inner.judging()[1] for inner in nodes)
    own = [min(most_own, figure) for figure in table.own]
    deep = [min(most_deep, figure) for figure in table.deep]
    text = sum(map(text_rate, nodes))
    multiples = sum("multipleOf" in inner.schema for inner in nodes)
    per_byte = text + multiples * _HUGE_MULTIPLE / _HUGE_BYTES + (max(own) + sum(deep)) / _VALUE_BYTES
    return Plan(own, deep, text, multiples, int(JUDGING / (per_byte + 1.0)))


def explaining(table: Table, measure: Measure, size: int, *, squared: bool) -> float:
    """Return the most that telling all failures can cost.

    Args:
        table: of the schema, from `Node.explaining`.
        measure: of the value.
        size: of the value in bytes.
        squared: the schema looks at names of members; each wrong one copies the whole object.

    """
    values = sum(measure.levels)
    cost = _COPY_VALUE * values * values if squared else 0.0
    for depth, count in enumerate(measure.levels):
        copied = _COPY_VALUE * sum(measure.levels[depth:]) + _COPY_BYTE * size
        cost += _at(table.own, depth) * count + _at(table.deep, depth) * copied
    return cost


def _at(figures: list[float], depth: int) -> float:
    return figures[depth] if depth < len(figures) else 0.0
