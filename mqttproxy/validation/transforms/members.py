"""The steps that put values in, take them out, and move them: `set`, `remove`, `rename`, `move`."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from mqttproxy.config.pointers import parts_of, shared
from mqttproxy.config.transforms import Move, Remove, Rename, Set
from mqttproxy.validation.transforms.context import Context
from mqttproxy.validation.transforms.draft import Draft, Path, Place, hops, path_of
from mqttproxy.validation.transforms.errors import TransformError

Doing = Callable[[Draft, Context], None]

MISSING: Final = "nothing is there"
TAKEN: Final = "there is a value already"


def setting_of(step: Set) -> Doing:
    """Return what does a `set` step."""
    path, keeps = path_of(step.path), step.if_present == "keep"
    plain = orjson.dumps(step.value)
    size = len(plain) + len(path[-1].name if path else "") + 4
    is_single, fails = not isinstance(step.value, dict | list), step.if_missing == "fail"

    def do(draft: Draft, _: Context) -> None:
        places, missing = draft.make(draft.top, path)
        complain(missing, fails=fails)
        for place in places:
            if not (keeps and draft.is_there(place)):
                draft.grow(size)
                draft.put(place, step.value if is_single else orjson.loads(plain))  # each has its own

    return do


def removal_of(step: Remove) -> Doing:
    """Return what does a `remove` step."""
    path, fails = path_of(step.path), step.if_missing == "fail"

    def do(draft: Draft, _: Context) -> None:
        places, missing = draft.find(draft.top, path)
        complain(missing, fails=fails)
        remove_all(places)

    return do


def renaming_of(step: Rename) -> Doing:
    """Return what does a `rename` step."""
    parents, name = path_of(step.from_.rpartition("/")[0]), parts_of(step.from_)[-1]
    new = parts_of(step.to)[-1]
    fails, replaces = step.if_missing == "fail", step.if_present == "replace"

    def do(draft: Draft, _: Context) -> None:
        places, missing = draft.find(draft.top, parents)
        for place in places:
            members = draft.opened(place)
            if not isinstance(members, dict) or name not in members:
                missing = missing or Place(None, name, place).pointer
                continue
            if new in members:
                if not replaces:
                    raise TransformError(Place(None, new, place).pointer, TAKEN)
                del members[new]
            draft.grow(len(new))
            renamed = {new if other == name else other: value for other, value in members.items()}
            members.clear()
            members.update(renamed)
        complain(missing, fails=fails)

    return do


def moving_of(step: Move) -> Doing:
    """Return what does a `move` step."""
    source, target = parts_of(step.from_), parts_of(step.to)
    common = len(shared(source))
    bases, whence, where_to = hops(source[:common]), hops(source[common:]), hops(target[common:])
    fails, replaces = step.if_missing == "fail", step.if_present == "replace"

    def do(draft: Draft, _: Context) -> None:
        places, missing = draft.find(draft.top, bases)
        complain(missing, fails=fails)
        for base in places:
            complain(_move(draft, base, whence, where_to, replaces=replaces), fails=fails)

    return do


def _move(draft: Draft, base: Place, whence: Path, where_to: Path, *, replaces: bool) -> str | None:
    """Move one value; returns a pointer to what is missing."""
    sources, missing = draft.find(base, whence)
    if not sources:
        return missing
    (source,) = sources
    value = source.holder[source.key]
    del source.holder[source.key]
    draft.grow(len(where_to[-1].name))
    targets, missing = draft.make(base, where_to)
    if not targets:
        _put_back(source, value)
        return missing
    (target,) = targets
    if draft.is_there(target) and not replaces:
        raise TransformError(target.pointer, TAKEN)
    draft.put(target, value)
    return None


def _put_back(place: Place, value: Any) -> None:
    if isinstance(place.holder, list):
        place.holder.insert(place.key, value)
    else:
        place.holder[place.key] = value


def remove_all(places: Sequence[Place]) -> None:
    """Take values out. Of one array the last come first, so that the numbers of the others stay."""
    for place in reversed(places):
        del place.holder[place.key]


def complain(missing: str | None, *, fails: bool) -> None:
    """Fail because a path leads nowhere, if that is a failure."""
    if missing is not None and fails:
        raise TransformError(missing, MISSING)
