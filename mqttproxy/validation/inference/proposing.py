"""From what was seen to a JSON Schema. Every payload that was looked at is valid under it.

What was seen too seldom to be relied upon is left open: a member that was always there is only required, a range, a
format or a list of values only asked for, if the lower bound of its share is high enough. Nothing forbids more members.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from mqttproxy.config.pointers import ALL
from mqttproxy.validation.inference.profile import Profile
from mqttproxy.validation.words import pointer

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
SURE: Final = 0.9  # share of all messages, at least, of which something must hold to be asked for
Z: Final = 1.96  # 95 % of the normal distribution

_FEW: Final = 10  # times that each of a few texts was sent on average, or they may not be all
_EXACT: Final = 2**53  # whole numbers up to this one are exact as floats


@frozen(kw_only=True)
class Place:
    """What is to be known of one place.

    `share` is how many of the objects around it have it, `at_least` the lower bound of that with 95 % confidence; of
    the payload itself and of items both are 1. `devices` have sent it; `found` are words for what was seen.
    """

    pointer: str
    count: int
    share: float
    at_least: float
    required: bool
    devices: int
    types: Mapping[str, int]
    found: tuple[str, ...] = ()


@frozen
class Proposal:
    """A schema, and what is to be known of each place, from the top down."""

    schema: dict[str, Any]
    places: tuple[Place, ...]


def wilson(hits: int, of: int) -> float:
    """Return the lower bound of a share with 95 % confidence (Wilson's score interval)."""
    if not of:
        return 0.0
    share, spread = hits / of, Z * Z / of
    middle = share + spread / 2
    return max(0.0, (middle - Z * math.sqrt(share * (1 - share) / of + spread / 4 / of)) / (1 + spread))


def propose(profile: Profile, *, sure: float = SURE, left_open: Iterable[Sequence[str]] = ()) -> Proposal:
    """Return a schema.

    Args:
        profile: of payloads, at least one.
        sure: from 0 to 1, see the module.
        left_open: places of which nothing is asked, as the parts of pointers with `*`: what masks have changed.

    """
    maker = _Maker(sure, tuple(tuple(parts) for parts in left_open))
    places = [maker.place(profile, (), profile.count, required=False)]
    schema = {"$schema": DRAFT, **maker.schema(profile, (), places)}
    return Proposal(schema, tuple(places))


@frozen
class _Maker:
    sure: float
    left_open: tuple[tuple[str, ...], ...]

    def schema(self, profile: Profile, path: tuple[str, ...], places: list[Place]) -> dict[str, Any]:
        if self._is_open(path):
            return {}
        types = _types(profile.types)
        schema: dict[str, Any] = {"type": types[0] if len(types) == 1 else types}
        if self._is_sure(profile.types.get("integer", 0) + profile.types.get("number", 0)):
            schema |= _range(profile)
        schema |= self._texts(profile, types)
        if "object" in types:
            schema |= self._object(profile, path, places)
        if "array" in types and profile.items is not None:
            below = (*path, ALL)
            places.append(self.place(profile.items, below, profile.items.count, required=False))
            schema["items"] = self.schema(profile.items, below, places)
        return schema

    def place(self, profile: Profile, path: tuple[str, ...], around: int, *, required: bool) -> Place:
        return Place(
            pointer=pointer(path),
            count=profile.count,
            share=profile.count / around,
            at_least=wilson(profile.count, around),
            required=required,
            devices=len(profile.devices),
            types=dict(profile.types),
            found=tuple(self._found(profile, path)),
        )

    def _object(self, profile: Profile, path: tuple[str, ...], places: list[Place]) -> dict[str, Any]:
        objects = profile.types["object"]
        properties, required = {}, []
        for name, member in profile.members.items():
            below = (*path, name)
            is_required = member.count == objects and self._is_sure(objects) and not self._is_open(below)
            if is_required:
                required.append(name)
            places.append(self.place(member, below, objects, required=is_required))
            properties[name] = self.schema(member, below, places)
        schema: dict[str, Any] = {}
        if properties:
            schema["properties"] = properties
        if required:
            schema["required"] = required
        return schema

    def _texts(self, profile: Profile, types: Sequence[str]) -> dict[str, Any]:
        count = profile.types.get("string", 0)
        if not self._is_sure(count):
            return {}
        if self._are_all(profile, count) and set(types) <= {"string", "null"}:
            return {"enum": [*sorted(profile.texts or ()), *([None] if "null" in types else [])]}
        if profile.formats:
            return {"format": profile.formats[0]}
        return {}

    def _are_all(self, profile: Profile, count: int) -> bool:
        """Tell whether the texts that were seen seem to be all: few, often, and none the mark of a single device."""
        texts = profile.texts
        if not texts or count < _FEW * len(texts):
            return False
        return len(profile.devices) < 2 or all(seen.is_shared for seen in texts.values())

    def _found(self, profile: Profile, path: tuple[str, ...]) -> Iterator[str]:
        if self._is_open(path):
            yield "masked: left open"
            return
        if profile.low is not None:
            yield f"from {profile.low:g} to {profile.high:g}"
        if profile.texts:
            rarest = min(seen.count for seen in profile.texts.values())
            yield f"{len(profile.texts)} different texts, the rarest {rarest} times"
        if profile.types.get("string") and profile.formats:
            yield f"each a {profile.formats[0]}"
        if profile.has_more_members:
            yield f"more than {len(profile.members)} different members: the others are left open"
        if profile.is_open:
            yield "nested too deeply, or too many places: left open below"

    def _is_sure(self, count: int) -> bool:
        return count > 0 and wilson(count, count) >= self.sure

    def _is_open(self, path: tuple[str, ...]) -> bool:
        return any(
            len(parts) == len(path)
            and all(ALL in (own, part) or own == part for own, part in zip(parts, path, strict=True))
            for parts in self.left_open
        )


def _types(found: Mapping[str, int]) -> list[str]:
    types = [name for name in ("object", "array", "string", "number", "integer", "boolean", "null") if name in found]
    return [name for name in types if not (name == "integer" and "number" in found)]


def _range(profile: Profile) -> dict[str, Any]:
    """Return a range that is a little wider than what was seen: rounded outwards to its leading digit."""
    low, high = profile.low, profile.high
    if low is None or high is None or low == high:
        return {}
    if isinstance(low, int) and isinstance(high, int):
        step = 10 ** (len(str(high - low)) - 1)
        return {"minimum": low // step * step, "maximum": -(-high // step) * step}
    span = float(high) - float(low)
    if not (math.isfinite(span) and max(abs(low), abs(high)) < _EXACT):
        return {}
    digits = -math.floor(math.log10(span))
    if digits > 300:  # what lies so close together is not a range
        return {}
    scale = 10.0**digits
    minimum, maximum = _plain(math.floor(low * scale) / scale), _plain(math.ceil(high * scale) / scale)
    return {"minimum": min(minimum, low), "maximum": max(maximum, high)}


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value
