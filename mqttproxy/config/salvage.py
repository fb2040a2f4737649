"""What can still be said about a file when some of its tables do not fit: one run shall tell everything."""

import re
from collections.abc import Iterable
from typing import Any, Final

import attrs

from mqttproxy.config.errors import Fault
from mqttproxy.config.model import LOCAL, ProxyConfig

_TABLE: Final = re.compile(r"(\w+)(?:\[(\d+)\])?")  # what a fault's key begins with
_UPSTREAM_NAME: Final = re.compile(r"upstreams(\[\d+\](\.name)?)?")
_KNOWN: Final = frozenset(attribute.name for attribute in attrs.fields(ProxyConfig))

# What stands in for a faulty table of a list, so that the others keep their places.
_STAND_INS: Final[dict[str, dict[str, Any]]] = {
    "listeners": {"bind": "127.0.0.1:0"},
    "policies": {"topics": ["#"], "schema": "stand-in@1"},
    "behaviours": {"topics": ["#"], "rule": "silence", "every": 1},
    "upstreams": {"url": "mqtt://stand-in"},
    "routes": {"topics": ["#"], "to": [LOCAL]},
    "masks": {"paths": ["/stand-in"]},
}


def without_faulty_tables(document: dict[str, Any], faults: Iterable[Fault]) -> dict[str, Any]:
    """Return the document with every faulty table left out, or replaced by a harmless one of the same name."""
    rest = {
        name: list(table) if isinstance(table, list) else table for name, table in document.items() if name in _KNOWN
    }
    for table, index in _faulty_tables(faults):
        if index is None:
            rest.pop(table, None)
        elif table in rest:
            rest[table][index] = _stand_in(table, index, rest[table][index])
    return rest


def reliable(later: Iterable[Fault], faults: Iterable[Fault]) -> list[Fault]:
    """Return those of the later faults that do not rest on something faulty."""
    earlier = list(faults)
    faulty = _faulty_tables(earlier)
    names_unknown = any(_hides_upstream(fault.key) for fault in earlier)
    return [
        fault
        for fault in later
        if not faulty & _faulty_tables([fault]) and not (names_unknown and fault.key.startswith("routes"))
    ]


def _hides_upstream(key: str) -> bool:
    """Tell whether a fault at this key may be why an upstream is not known by its name."""
    place = _TABLE.match(key)
    return place is None or place[1] not in _KNOWN or _UPSTREAM_NAME.fullmatch(key) is not None


def _faulty_tables(faults: Iterable[Fault]) -> set[tuple[str, int | None]]:
    found = (_TABLE.match(fault.key) for fault in faults)
    return {(place[1], int(place[2]) if place[2] else None) for place in found if place}


def _stand_in(table: str, index: int, faulty: object) -> dict[str, Any]:
    if table in {"routes", "masks"}:  # without a name
        return _STAND_INS[table]
    name = faulty.get("name") if isinstance(faulty, dict) else None
    return {"name": name if isinstance(name, str) and "\0" not in name else f"stand-in {index}", **_STAND_INS[table]}
