"""What changes a message on its way: the steps of `transforms`, where they stand, and `[masking]`. Part of the model.

A step is a table such as `{ op = "rename", from = "/a", to = "/b" }`; `op` says which of the classes here it is. An
attribute whose name ends with an underscore is the key without it.
"""

from pathlib import Path
from typing import Final, Literal, NewType

from attrs import frozen

from mqttproxy.config.kinds import REQUIRED, JsonValue, TopicFilter, TopicPattern, setting

JsonPointer = NewType("JsonPointer", str)  # RFC 6901, with `*`
Template = NewType("Template", str)  # a text with parts of the topic, see `templates`

MOST_STEPS: Final = 64  # in one list
STEP_WORDS: Final = 'a step such as { op = "rename", from = "/a", to = "/b" }'

IfMissing = Literal["fail", "skip"]
How = Literal["drop", "hash", "truncate"]

_MISSING: Final = "what happens when the path leads nowhere: the message fails, or the step is skipped"


class Step:
    """One step of a list; each kind is a subclass."""

    op: str


@frozen(kw_only=True)
class Set(Step):
    """`set`: a value is put there; objects on the way are made."""

    op: Literal["set"] = setting("set", "")
    path: JsonPointer = setting(REQUIRED, "where; `-` is behind the last item of an array")
    value: JsonValue = setting(REQUIRED, "any value but null")
    if_present: Literal["replace", "keep"] = setting("replace", "keep: a value that is there stays")
    if_missing: IfMissing = setting("fail", _MISSING)


@frozen(kw_only=True)
class Remove(Step):
    """`remove`: a member or an item goes."""

    op: Literal["remove"] = setting("remove", "")
    path: JsonPointer = setting(REQUIRED, "which")
    if_missing: IfMissing = setting("fail", _MISSING)


@frozen(kw_only=True)
class Rename(Step):
    """`rename`: a member gets another name in the same object, and keeps its place."""

    op: Literal["rename"] = setting("rename", "")
    from_: JsonPointer = setting(REQUIRED, "the member")
    to: JsonPointer = setting(REQUIRED, "the same but for the last part")
    if_present: Literal["fail", "replace"] = setting("fail", "what happens when there is a member of that name")
    if_missing: IfMissing = setting("fail", _MISSING)


@frozen(kw_only=True)
class Move(Step):
    """`move`: a value goes elsewhere in the document; objects on the way are made."""

    op: Literal["move"] = setting("move", "")
    from_: JsonPointer = setting(REQUIRED, "whence")
    to: JsonPointer = setting(REQUIRED, "where to; the same as in `from` up to the last `*`")
    if_present: Literal["fail", "replace"] = setting("fail", "what happens when there is a value already")
    if_missing: IfMissing = setting("fail", _MISSING)


@frozen(kw_only=True)
class Cast(Step):
    """`cast`: a value becomes one of another type, if nothing is lost by it."""

    op: Literal["cast"] = setting("cast", "")
    path: JsonPointer = setting(REQUIRED, "which value")
    type: Literal["string", "number", "integer", "boolean"] = setting(REQUIRED, "the type it gets")
    if_missing: IfMissing = setting("fail", _MISSING)


@frozen(kw_only=True)
class Unit(Step):
    """`unit`: a number in one unit becomes one in another."""

    op: Literal["unit"] = setting("unit", "")
    path: JsonPointer = setting(REQUIRED, "which number")
    from_: str = setting(REQUIRED, "its unit")
    to: str = setting(REQUIRED, "the unit it gets")
    digits: int | None = setting(None, "decimal places that are kept, rounded half to even; without it all")
    if_missing: IfMissing = setting("fail", _MISSING)


@frozen(kw_only=True)
class Mask(Step):
    """`mask`: a value is made unreadable."""

    op: Literal["mask"] = setting("mask", "")
    path: JsonPointer = setting(REQUIRED, "which value")
    how: How = setting(REQUIRED, "drop: removed; hash: HMAC-SHA-256 with the key of `[masking]`; truncate: cut short")
    length: int | None = setting(None, "characters that stay: of the hash, 16 unless told; of the text")
    if_missing: IfMissing = setting("fail", _MISSING)


@frozen(kw_only=True)
class CopyTopic(Step):
    """`copy_topic`: parts of the topic are put into the payload, as a text."""

    op: Literal["copy_topic"] = setting("copy_topic", "")
    from_: Template = setting(REQUIRED, "a text with `{name}` for a capture, `{2}` for a level, `{0}` for the topic")
    to: JsonPointer = setting(REQUIRED, "where")
    if_present: Literal["replace", "keep"] = setting("replace", "keep: a value that is there stays")
    if_missing: IfMissing = setting("fail", _MISSING)


@frozen(kw_only=True)
class SetTopic(Step):
    """`set_topic`: the message gets another topic, of parts of its topic and of its payload."""

    op: Literal["set_topic"] = setting("set_topic", "")
    to: Template = setting(REQUIRED, "the same as in `copy_topic`, and `{/site}` for a value of the payload")
    if_missing: IfMissing = setting("fail", _MISSING)


STEPS: Final[dict[str, type[Step]]] = {
    "set": Set,
    "remove": Remove,
    "rename": Rename,
    "move": Move,
    "cast": Cast,
    "unit": Unit,
    "mask": Mask,
    "copy_topic": CopyTopic,
    "set_topic": SetTopic,
}


@frozen(kw_only=True)
class DestinationTransforms:
    """`[[upstreams.transforms]]`: what messages on some topics become for the upstream above.

    All tables whose topics match apply, in the order of the file. A message that cannot be transformed is not sent
    there: it goes to the quarantine. See docs/transforms.md for the steps.
    """

    topics: tuple[TopicPattern, ...] = setting(
        REQUIRED, "topic filters, with `{name}` in the place of `+` for levels that steps speak of"
    )
    steps: tuple[Step, ...] = setting(REQUIRED, "the steps, in order")


@frozen(kw_only=True)
class MaskSettings:
    """`[[masks]]`: what audit trail, logs and the views of the quarantine do not show of payloads on some topics."""

    topics: tuple[TopicFilter, ...] = setting((TopicFilter("#"),), "topic filters; `#` does not cover `$` topics")
    paths: tuple[JsonPointer, ...] = setting(REQUIRED, "JSON Pointers to what is masked; `*` for all items or members")
    how: How = setting("drop", "drop: left out; hash: HMAC-SHA-256 with the key of `[masking]`; truncate: cut short")
    length: int | None = setting(None, "characters that stay: of the hash, 16 unless told; of the text")


@frozen(kw_only=True)
class MaskingSettings:
    """`[masking]`: the key of all masks, and how far `[[masks]]` reach."""

    key: str | None = setting(None, "key of every hash, at least 16 bytes; better in a file of its own", secret=True)
    key_file: Path | None = setting(None, "file that holds the key, read at start and reload")
    stored: bool = setting(
        False, "true: the quarantine keeps payloads masked, for ever; a release then carries what is left of them"
    )
