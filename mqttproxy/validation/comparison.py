"""Two sets of rules held against each other, message by message: what the other one would break, and what heal.

Both sides judge the same messages; `Comparison` counts in which of four cells each of them falls, in all and by what
may explain it, and keeps some of them as samples. Whatever devices send, it stays bounded.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from attrs import define, field, frozen

from mqttproxy.validation.verdict import Failure, Verdict

Cell = Literal["both_pass", "would_break", "would_heal", "both_fail"]
Axis = Literal["policy", "pointer", "device", "attribute"]

CELLS: Final[tuple[Cell, ...]] = ("both_pass", "would_break", "would_heal", "both_fail")
AXES: Final[tuple[Axis, ...]] = ("policy", "pointer", "device", "attribute")
NO_POLICY: Final = ""  # topic rules and the default action fail messages in no policy's name


@frozen
class Outcome:
    """What one side says of a message. It fails if there are failures."""

    policies: tuple[str, ...] = ()  # that failed it, each once
    failures: tuple[Failure, ...] = ()

    @property
    def fails(self) -> bool:
        """Tell whether the message fails."""
        return bool(self.failures)


PASSES: Final = Outcome()


def outcome_of(verdict: Verdict, *, with_observed: bool = False) -> Outcome:
    """Return what a verdict of `judge` says.

    Args:
        verdict: of either side.
        with_observed: failures that are only observed count too. Otherwise such a message passes: it is carried, and
            its device hears nothing of it.

    """
    if not verdict.failures or (verdict.observed and not with_observed):
        return PASSES
    policies = dict.fromkeys(part.policy or NO_POLICY for part in verdict.told)
    return Outcome(tuple(policies), verdict.failures)


@define
class Counts:
    """How many messages are in each cell."""

    both_pass: int = 0
    would_break: int = 0  # pass now, fail then
    would_heal: int = 0  # fail now, pass then
    both_fail: int = 0

    @property
    def messages(self) -> int:
        """Return how many there are in all."""
        return self.both_pass + self.would_break + self.would_heal + self.both_fail

    def count(self, cell: Cell) -> None:
        """Count one message."""
        setattr(self, cell, getattr(self, cell) + 1)

    def as_document(self) -> dict[str, int]:
        """Return the counts for JSON."""
        return {cell: getattr(self, cell) for cell in CELLS}


@frozen(kw_only=True)
class Sample:
    """A message as an example of its cell."""

    cell: Cell
    id: str  # under which it can be looked up; empty: nowhere
    device: str
    topic: str
    payload: str = ""  # as it may be shown; empty: it is looked up
    outcome: Outcome  # of the side that fails it, the other rules' if both do

    def as_document(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "id": self.id or None,
            "device": self.device,
            "topic": self.topic,
            **({"payload": self.payload} if self.payload else {}),
            "policies": [policy or None for policy in self.outcome.policies],
            "failures": [
                {"pointer": failure.pointer, "keyword": failure.keyword, "message": failure.message}
                for failure in self.outcome.failures
            ],
        }


@define(kw_only=True)
class Table:
    """Counts by one axis, at most so many rows; all that has no row of its own is in `other`."""

    most_rows: int
    rows: dict[str, Counts] = field(init=False, factory=dict)
    other: Counts = field(init=False, factory=Counts)

    def count(self, key: str, cell: Cell) -> None:
        """Count one message in a row."""
        row = self.rows.get(key)
        if row is None:
            row = self.other if len(self.rows) >= self.most_rows else self.rows.setdefault(key, Counts())
        row.count(cell)

    def worst(self, most: int) -> list[tuple[str, Counts]]:
        """Return the rows that would break most first, then those that heal or fail most."""
        rows = sorted(self.rows.items(), key=lambda row: (-row[1].would_break, -row[1].would_heal, -row[1].both_fail))
        return rows[:most]


@define(kw_only=True)
class Comparison:
    """The 2x2 table of two sets of rules.

    By policy, pointer and device only messages are counted that fail on a side: by the other rules' failures, unless
    only those in force now fail it. By attribute all are, so that shares can be told. A message with several policies,
    pointers or attributes is counted once in the row of each.
    """

    most_rows: int = 1000  # of each axis
    most_samples: int = 20  # of each cell but `both_pass`; the newest are kept
    total: Counts = field(init=False, factory=Counts)
    tables: dict[Axis, Table] = field(init=False)
    _samples: dict[Cell, "deque[Sample]"] = field(init=False)

    @tables.default
    def _make_tables(self) -> dict[Axis, Table]:
        return {axis: Table(most_rows=self.most_rows) for axis in AXES}

    @_samples.default
    def _make_samples(self) -> "dict[Cell, deque[Sample]]":
        return {cell: deque(maxlen=self.most_samples) for cell in CELLS if cell != "both_pass"}

    def add(
        self,
        now: Outcome,
        then: Outcome,
        *,
        device: str,
        attributes: Mapping[str, str],
        topic: str = "",
        message_id: str = "",
        payload: str = "",
    ) -> Cell:
        """Count a message; return its cell.

        Args:
            now: what the rules in force say.
            then: what the other rules say.
            device: client identifier of the sender.
            attributes: of the sender, such as its firmware.
            topic: for samples.
            message_id: for samples.
            payload: for samples.

        """
        cell = cell_of(now, then)
        self.total.count(cell)
        for name, value in attributes.items():
            self.tables["attribute"].count(f"{name} = {value}", cell)
        if cell == "both_pass":
            return cell
        outcome = then if then.fails else now
        self._count("policy", outcome.policies, cell)
        self._count("pointer", dict.fromkeys(failure.pointer for failure in outcome.failures), cell)
        self._count("device", (device,), cell)
        self._samples[cell].append(
            Sample(cell=cell, id=message_id, device=device, topic=topic, payload=payload, outcome=outcome),
        )
        return cell

    def _count(self, axis: Axis, keys: Iterable[str], cell: Cell) -> None:
        table = self.tables[axis]
        for key in keys:
            table.count(key, cell)

    def samples(self, cell: Cell) -> Sequence[Sample]:
        """Return the newest messages of a cell, the oldest of them first; of `both_pass` none are kept."""
        return tuple(self._samples.get(cell, ()))

    def as_document(self, most_rows: int | None = None) -> dict[str, object]:
        """Return everything for JSON, the worst rows first.

        Args:
            most_rows: of each axis; None: all there are. `other` has only what had no row at all.

        """
        return {
            "messages": self.total.messages,
            **self.total.as_document(),
            "by": {
                axis: {
                    "rows": [
                        {"key": key, **counts.as_document()}
                        for key, counts in table.worst(len(table.rows) if most_rows is None else most_rows)
                    ],
                    "other": table.other.as_document(),
                }
                for axis, table in self.tables.items()
            },
            "samples": {cell: [sample.as_document() for sample in kept] for cell, kept in self._samples.items()},
        }


def cell_of(now: Outcome, then: Outcome) -> Cell:
    """Return where a message is counted."""
    if now.fails:
        return "both_fail" if then.fails else "would_heal"
    return "would_break" if then.fails else "both_pass"
