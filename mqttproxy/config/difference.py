"""What is different between two configurations, as a value: in words, for programs, and the other way round.

Generic over the settings: tables of a kind are matched by name, or by the setting that they are told apart by; what a
change means stands in `loosening`. Secrets are never shown.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, get_args

import attrs
from attrs import frozen

from mqttproxy.config.at_start import is_at_start
from mqttproxy.config.errors import quoted, shown
from mqttproxy.config.kinds import file_key
from mqttproxy.config.loosening import OTHER_WAY, Effect, effect_of, effect_of_item
from mqttproxy.config.model import Bytes, ProxyConfig, Quorum, Seconds
from mqttproxy.config.units import write_duration, write_size

What = Literal["added", "removed", "changed", "reordered"]

# Tables of which the order says which comes first, or applies.
IN_ORDER: Final = frozenset({"policies", "policies.bindings", "routes", "access.rules"})
_FLIPPED: Final[dict[What, What]] = {"added": "removed", "removed": "added"}
_HIDDEN: Final = "something that is not shown"


@frozen
class Change:
    """One change. `before` and `after` are as the file writes them; `why` says what the effect means."""

    key: str  # such as `policies[temperature].level`
    table: str  # such as `policies`
    name: str | None  # of the table that is one of many
    what: What
    before: str | None
    after: str | None
    effect: Effect
    why: str = ""
    needs_restart: bool = False

    def __str__(self) -> str:
        """Return it in one line."""
        words = f"{self.key}: {self._values()}"
        if self.effect in ("loosens", "tightens"):
            words += f": {self.effect}" + (f", {self.why}" if self.why else "")
        elif self.effect == "either":
            words += ": may loosen or tighten"
        return words + ("; waits for a restart" if self.needs_restart else "")

    def _values(self) -> str:
        return f"{self.before} -> {self.after}" if self.what == "changed" else self.what


@frozen
class Difference:
    """All changes from one configuration to another, in the order of the model."""

    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self.changes)

    @property
    def may_loosen(self) -> bool:
        """Whether something is loosened, or may be."""
        return any(change.effect in ("loosens", "either") for change in self.changes)

    def of(self, *effects: Effect) -> list[Change]:
        """Return the changes with one of these effects."""
        return [change for change in self.changes if change.effect in effects]

    def names(self, table: str) -> list[str]:
        """Return which tables of a kind are touched."""
        return list(dict.fromkeys(one.name for one in self.changes if one.table == table and one.name is not None))

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "changes": [{**attrs.asdict(change), "words": str(change)} for change in self.changes],
            "loosens": len(self.of("loosens")),
            "tightens": len(self.of("tightens")),
            "either": len(self.of("either")),
            "needs_restart": [change.key for change in self.changes if change.needs_restart],
            "touched": {table: self.names(table) for table in ("listeners", "policies", "upstreams", "routes")},
        }


def compare(old: ProxyConfig, new: ProxyConfig) -> Difference:
    """Return what is different. `compare(new, old)` has the same changes the other way round."""
    changes: list[Change] = []
    for attribute in attrs.fields(ProxyConfig):
        table, before, after = attribute.name, getattr(old, attribute.name), getattr(new, attribute.name)
        if isinstance(before, tuple):
            changes += _tables(table, table, None, before, after)
        else:
            changes += _settings(table, table, None, before, after)
    return Difference(tuple(changes))


def _tables(table: str, place: str, name: str | None, before: Sequence[Any], after: Sequence[Any]) -> Iterator[Change]:
    """Compare tables of one kind, of which there may be many."""
    old, new = _by_identity(before), _by_identity(after)
    for identity in sorted(old.keys() | new.keys(), key=lambda one: _place_in(one, old, new)):
        key, own = f"{place}[{identity}]", name or identity
        if identity not in new:
            yield _item(table, key, own, old[identity], "removed")
        elif identity not in old:
            yield _item(table, key, own, new[identity], "added")
        else:
            yield from _settings(table, key, own, old[identity], new[identity])
    kept = [[one for one in side if one in old and one in new] for side in (old, new)]
    if table in IN_ORDER and kept[0] != kept[1]:
        effect: Effect = "neither" if table == "routes" else "either"
        yield Change(place, table, name, "reordered", ", ".join(kept[0]), ", ".join(kept[1]), effect)


def _place_in(identity: str, old: dict[str, Any], new: dict[str, Any]) -> tuple[int, str]:
    places = [list(side).index(identity) for side in (old, new) if identity in side]
    return min(places), identity


def _item(table: str, key: str, name: str, item: Any, what: What) -> Change:
    effect, why = effect_of_item(table, item, added=what == "added")
    before, after = (None, key) if what == "added" else (key, None)
    return Change(key, table, name, what, before, after, effect, why, "." in table and is_at_start(table, ""))


def _settings(table: str, place: str, name: str | None, before: Any, after: Any) -> Iterator[Change]:
    """Compare the settings of one table."""
    for attribute in attrs.fields(type(before)):
        old, new = getattr(before, attribute.name), getattr(after, attribute.name)
        if old == new:
            continue
        key = f"{place}.{file_key(attribute.name)}"
        if _are_tables(old) and _are_tables(new):
            yield from _tables(f"{table}.{attribute.name}", key, name, old, new)
        elif _is_table(old) and type(old) is type(new):
            yield from _settings(f"{table}.{attribute.name}", key, name, old, new)
        else:
            effect, why = effect_of(table, attribute.name, old, new)
            one, other = _text(attribute, old), _text(attribute, new)
            restart = is_at_start(table, attribute.name)
            yield Change(key, table, name, "changed", one, other, effect, why, restart)


def _text(attribute: Any, value: Any) -> str:
    secret = attribute.metadata.get("secret", False)
    return _HIDDEN if secret and value is not None else written(value, attribute.type)


def _is_table(value: Any) -> bool:
    return attrs.has(type(value)) and any("text" in field.metadata for field in attrs.fields(type(value)))


def _are_tables(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_table, value))


def _by_identity(items: Sequence[Any]) -> dict[str, Any]:
    """Return tables by what they are told apart by, those that are the same numbered."""
    seen: Counter[str] = Counter()
    found: dict[str, Any] = {}
    for item in items:
        identity = _identity(item)
        seen[identity] += 1
        found[identity if seen[identity] == 1 else f"{identity} #{seen[identity]}"] = item
    return found


def _identity(item: Any) -> str:
    if isinstance(name := getattr(item, "name", None), str):
        return name
    first = getattr(item, attrs.fields(type(item))[0].name)
    return " ".join(map(str, first)) if isinstance(first, tuple) else str(first)


def written(value: Any, kind: Any = None) -> str:
    """Return a value as the file has it, short, and without credentials."""
    kinds = (kind, *get_args(kind))
    match value:
        case None:
            text = "nothing"
        case Quorum():
            text = f"{{ quorum = {value.destinations} }}"
        case tuple():
            text = f"[{', '.join(written(item) for item in value)}]"
        case bool() | str():
            text = shown(value)
        case int() | float() if Seconds in kinds:
            text = quoted(write_duration(value))
        case int() if Bytes in kinds:
            text = quoted(write_size(value))
        case int() | float():
            text = str(value)
        case _:
            text = quoted(str(value), 200)
    return text


def flipped(change: Change) -> Change:
    """Return a change the other way round, without words."""
    return attrs.evolve(
        change,
        what=_FLIPPED.get(change.what, change.what),
        before=change.after,
        after=change.before,
        effect=OTHER_WAY[change.effect],
        why="",
    )
