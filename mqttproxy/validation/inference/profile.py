"""What was seen in payloads, place by place: types, ranges, texts, formats, members. Bounded, whatever devices send.

Libraries that infer schemas know which types and members there were; how often, on how many devices, within which range
and with which few values is what makes a proposal worth reading, and is counted here.
"""

from typing import Final

import jsonschema_rs
from attrs import Factory, define, field

from mqttproxy.validation.words import Json

FORMATS: Final = ("uuid", "date-time", "date", "time", "ipv4", "ipv6", "email", "uri")

_LONGEST: Final = 64  # characters of a text that may be one of a few
_LONGEST_FORMAT: Final = 300  # characters of a text that may have a format


@define
class Bounds:
    """What bounds all profiles of one inference. `places`: that may still be made."""

    depth: int = 8  # below the payload; what is deeper is left open
    members: int = 100  # of one object
    texts: int = 12  # different ones that are told apart at one place
    devices: int = 100  # told apart at one place
    places: int = 2000


@define
class Seen:
    """One text. `is_shared`: more than one device has sent it."""

    device: str
    count: int = 0
    is_shared: bool = False


@define(eq=False)
class Profile:
    """One place. `types` counts values by JSON type; a whole number that was written with a point is a number."""

    bounds: Bounds = Factory(Bounds)
    depth: int = 0
    count: int = 0
    types: dict[str, int] = field(factory=dict)
    low: float | None = None
    high: float | None = None
    texts: dict[str, Seen] | None = field(factory=dict)  # None: too many, or too long
    formats: tuple[str, ...] = FORMATS  # that all texts have
    members: dict[str, "Profile"] = field(factory=dict)
    has_more_members: bool = False
    items: "Profile | None" = None
    is_open: bool = False  # there was more below than is looked at
    devices: set[str] = field(factory=set)  # at most `bounds.devices` of them

    def add(self, value: Json, device: str) -> None:
        """Look at one value."""
        self.count += 1
        if len(self.devices) < self.bounds.devices:
            self.devices.add(device)
        kind = _KINDS[type(value)]
        self.types[kind] = self.types.get(kind, 0) + 1
        match value:
            case bool():
                pass
            case int() | float():
                self.low = value if self.low is None else min(self.low, value)
                self.high = value if self.high is None else max(self.high, value)
            case str():
                self._add_text(value, device)
            case dict():
                self._add_members(value, device)
            case list():
                self._add_items(value, device)

    def _add_text(self, text: str, device: str) -> None:
        if self.formats:
            short = len(text) <= _LONGEST_FORMAT
            self.formats = tuple(name for name in self.formats if short and _CHECKS[name].is_valid(text))
        if self.texts is None:
            return
        if len(text) > _LONGEST or (text not in self.texts and len(self.texts) >= self.bounds.texts):
            self.texts = None
            return
        seen = self.texts.setdefault(text, Seen(device))
        seen.count += 1
        seen.is_shared |= seen.device != device

    def _add_members(self, value: dict[str, Json], device: str) -> None:
        for name, member in value.items():
            profile = self.members.get(name)
            if profile is None:
                if len(self.members) >= self.bounds.members:
                    self.has_more_members = True
                    continue
                profile = self._below()
                if profile is None:
                    continue
                self.members[name] = profile
            profile.add(member, device)

    def _add_items(self, value: list[Json], device: str) -> None:
        if not value:
            return
        if self.items is None:
            self.items = self._below()
        if self.items is not None:
            for item in value:
                self.items.add(item, device)

    def _below(self) -> "Profile | None":
        """Return a profile for a place below, None: there is none left."""
        if self.depth >= self.bounds.depth or self.bounds.places <= 0:
            self.is_open = True
            return None
        self.bounds.places -= 1
        return Profile(self.bounds, self.depth + 1)


# The same checks that the proposal is judged by.
_CHECKS: Final = {name: jsonschema_rs.Draft202012Validator({"format": name}, validate_formats=True) for name in FORMATS}
_KINDS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
