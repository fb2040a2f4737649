"""Bad payloads: a good one in which one thing is broken, as devices break them. Each is one that the schema refuses."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from typing import Final

from mqttproxy.sim.instances import Json, Maker, encoded

NOT_JSON: Final = "not_json"
OFTEN: Final = 0.1  # share of those that are no JSON at all
TRIES: Final = 8  # places at which one kind of fault is tried
LONG: Final = 1000  # letters or items
_OTHERS: Final[tuple[Json, ...]] = (None, True, "unexpected", 1e9, -1.5, [], {})


def bad(maker: Maker) -> tuple[str, bytes]:
    """Return a bad payload, and what is wrong with it."""
    chance = maker.chance
    good = maker.good()
    if chance.random() >= OFTEN:
        kinds = list(_FAULTS)
        chance.shuffle(kinds)
        for kind in kinds:
            for _ in range(TRIES):
                value = _FAULTS[kind](deepcopy(good), chance)
                if value is not _NOTHING and not maker.is_valid(value):
                    return kind, encoded(value)
    return NOT_JSON, broken(encoded(good), chance)


def broken(payload: bytes, chance: Random) -> bytes:
    """Return what is no JSON: cut off, as by a buffer that is too small, or other bytes."""
    cut = payload[: chance.randrange(len(payload))] if len(payload) > 1 else b""
    return chance.choice((cut + b"\0", b"", b"\xff\xfe" + payload, payload + b"}"))


_NOTHING: Final = object()
_Place = tuple[Json, str | int]  # a container, and where in it


def _places(value: Json) -> Iterator[_Place]:
    """Yield where each value within stands, the whole one too: it is in a list of its own."""
    stack: list[Json] = [value]
    while stack:
        container = stack.pop()
        keys: Iterator[str | int] = iter(container) if isinstance(container, dict) else iter(range(len(container)))
        for key in keys:
            yield container, key
            if isinstance(container[key], (dict, list)):
                stack.append(container[key])


def _changed(good: Json, chance: Random, fits: Callable[[Json], bool], change: Callable[[Json], Json]) -> Json:
    whole = [good]
    places = [(container, key) for container, key in _places(whole) if fits(container[key])]
    if not places:
        return _NOTHING
    container, key = chance.choice(places)
    container[key] = change(container[key])
    return whole[0]


def _missing(good: Json, chance: Random) -> Json:
    whole = [good]
    places = [(container, key) for container, key in _places(whole) if isinstance(container, dict)]
    if not places:
        return _NOTHING
    container, key = chance.choice(places)
    del container[key]
    return whole[0]


def _wrong_type(good: Json, chance: Random) -> Json:
    return _changed(good, chance, lambda _: True, lambda _: deepcopy(chance.choice(_OTHERS)))


def _out_of_range(good: Json, chance: Random) -> Json:
    factor = chance.choice((-1_000_003, 1_000_003, 0.37))
    return _changed(good, chance, _is_number, lambda value: value * factor + factor)


def _unexpected_member(good: Json, chance: Random) -> Json:
    return _changed(good, chance, lambda value: isinstance(value, dict), lambda value: value | {"unexpected": 1})


def _too_long(good: Json, chance: Random) -> Json:
    def longer(value: Json) -> Json:
        return value + ("x" * LONG if isinstance(value, str) else [None] * LONG)

    return _changed(good, chance, lambda value: isinstance(value, (str, list)), longer)


def _too_short(good: Json, chance: Random) -> Json:
    return _changed(good, chance, lambda value: isinstance(value, (str, list)), lambda value: value[:0])


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_FAULTS: Final[dict[str, Callable[[Json, Random], Json]]] = {
    "missing": _missing,
    "wrong_type": _wrong_type,
    "out_of_range": _out_of_range,
    "unexpected_member": _unexpected_member,
    "too_long": _too_long,
    "too_short": _too_short,
}
