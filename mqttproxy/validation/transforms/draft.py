"""A document in the making: what is changed is copied first, so that the one it was made from stays as it is.

Arrays and objects are copied when a step first goes through them, and only those; none is when the document is ours.
The work is counted, so that no document holds the loop, and so is what is put in.
"""

from typing import Any, Final

from attrs import frozen

from mqttproxy.config.pointers import ALL, parts_of
from mqttproxy.validation.transforms.errors import TransformError

MOST_PLACES: Final = 20_000  # values that all steps may touch in one document
LONGEST_INDEX: Final = 9  # digits


class Place:
    """A value of the draft: what holds it, and under which name or number; or where one may be put."""

    __slots__ = ("holder", "key", "up")

    def __init__(self, holder: Any, key: Any, up: "Place | None") -> None:
        self.holder = holder
        self.key = key
        self.up = up

    @property
    def pointer(self) -> str:
        """Return the JSON Pointer to it."""
        parts: list[str] = []
        place: Place = self
        while place.up is not None:
            parts.append(str(place.key).replace("~", "~0").replace("/", "~1"))
            place = place.up
        return "".join(f"/{part}" for part in reversed(parts))


@frozen
class Hop:
    """One part of a path."""

    name: str
    index: int  # as an item of an array; -1: it is none
    is_all: bool


Path = tuple[Hop, ...]


def path_of(pointer: str) -> Path:
    """Return the path of a good JSON Pointer."""
    return hops(parts_of(pointer))


def hops(parts: tuple[str, ...]) -> Path:
    """Return the path of these parts."""
    return tuple(Hop(part, _index(part), part == ALL) for part in parts)


def _index(part: str) -> int:
    is_index = part.isascii() and part.isdigit() and len(part) <= LONGEST_INDEX and (part == "0" or part[0] != "0")
    return int(part) if is_index else -1


class Draft:
    """One document, until its `document` is taken."""

    __slots__ = ("_left", "_own", "_room", "_top", "new_topic", "top")

    def __init__(self, document: Any, room: int, *, is_ours: bool = False) -> None:
        """Begin.

        Args:
            document: JSON; stays as it is.
            room: bytes that steps may put in.
            is_ours: nobody else has the document, so it may change.

        """
        self._top = [document]
        self._own: dict[int, Any] | None = None if is_ours else {}
        self._left = MOST_PLACES
        self._room = room
        self.top = Place(self._top, 0, None)  # of the document itself
        self.new_topic: str | None = None  # what `set_topic` has made

    @property
    def document(self) -> Any:
        """Return what it has become."""
        return self._top[0]

    def find(self, start: Place, path: Path) -> tuple[list[Place], str | None]:
        """Return all places that a path leads to, ready to be changed; and a pointer to the first that is missing."""
        place = start
        for depth, hop in enumerate(path):
            if hop.is_all:
                return self._find_all(place, path[depth:])
            value = self.opened(place)
            kind = type(value)
            if kind is dict and hop.name in value:
                place = Place(value, hop.name, place)
            elif kind is list and 0 <= hop.index < len(value):
                place = Place(value, hop.index, place)
            else:
                return [], Place(value, hop.name, place).pointer
        self.count(1)
        return [place], None

    def _find_all(self, start: Place, path: Path) -> tuple[list[Place], str | None]:
        """Go on from a `*`."""
        value = self.opened(start)
        if not isinstance(value, dict | list):
            return [], Place(value, ALL, start).pointer
        self.count(len(value))
        below = [Place(value, key, start) for key in (value if isinstance(value, dict) else range(len(value)))]
        if len(path) == 1:
            return below, None
        found: list[Place] = []
        missing: str | None = None
        for place in below:
            places, lost = self.find(place, path[1:])
            found += places
            missing = missing or lost
        return found, missing

    def make(self, start: Place, path: Path) -> tuple[list[Place], str | None]:
        """Return all places that a path leads to, whether there is a value or not; objects on the way are made."""
        place = start
        for depth, hop in enumerate(path):
            if hop.is_all:
                return self._make_all(place, path[depth:])
            value = self.opened(place)
            is_last = depth == len(path) - 1
            if type(value) is dict:
                if not is_last and hop.name not in value:
                    self._make_object(value, hop.name)
                place = Place(value, hop.name, place)
            elif type(value) is list and is_last and hop.name == "-":
                place = Place(value, len(value), place)
            elif type(value) is list and 0 <= hop.index < len(value) + is_last:
                place = Place(value, hop.index, place)
            else:
                return [], Place(value, hop.name, place).pointer
        self.count(1)
        return [place], None

    def _make_all(self, start: Place, path: Path) -> tuple[list[Place], str | None]:
        below, missing = self._find_all(start, path[:1])
        if len(path) == 1:
            return below, missing
        found: list[Place] = []
        for place in below:
            places, lost = self.make(place, path[1:])
            found += places
            missing = missing or lost
        return found, missing

    def _make_object(self, holder: dict[str, Any], name: str) -> None:
        self.grow(len(name) + 5)
        made: dict[str, Any] = {}
        holder[name] = made
        if self._own is not None:
            self._own[id(made)] = made

    def opened(self, place: Place) -> Any:
        """Return the value of a place; an array or object is ours from then on."""
        value = place.holder[place.key]
        own = self._own
        if own is None or (type(value) is not dict and type(value) is not list) or id(value) in own:
            return value
        copy = value.copy()
        place.holder[place.key] = copy
        own[id(copy)] = copy  # kept alive, so that no other has its id
        return copy

    def is_there(self, place: Place) -> bool:
        """Tell whether a place of `make` has a value."""
        return place.key in place.holder if isinstance(place.holder, dict) else place.key < len(place.holder)

    def put(self, place: Place, value: Any) -> None:
        """Put a value in a place of `find` or `make`; an array or object must not be anybody else's."""
        if type(place.holder) is list and place.key == len(place.holder):
            place.holder.append(value)
        else:
            place.holder[place.key] = value

    def grow(self, size: int) -> None:
        """Count bytes that a step puts in.

        Raises:
            TransformError: it is too much.

        """
        self._room -= size
        if self._room < 0:
            raise TransformError("", "the result would be too large")

    def count(self, places: int) -> None:
        """Count values that a step touches.

        Raises:
            TransformError: there are too many.

        """
        self._left -= places
        if self._left < 0:
            raise TransformError("", f"the steps touch more than {MOST_PLACES} values")
