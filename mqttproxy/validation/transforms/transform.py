"""A list of steps, made ready for documents."""

from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen

from mqttproxy.config.model import LimitSettings
from mqttproxy.config.transforms import Cast, CopyTopic, Mask, Move, Remove, Rename, Set, SetTopic, Step, Unit
from mqttproxy.validation.transforms.context import Context
from mqttproxy.validation.transforms.draft import Draft
from mqttproxy.validation.transforms.errors import TransformError
from mqttproxy.validation.transforms.members import Doing, moving_of, removal_of, renaming_of, setting_of
from mqttproxy.validation.transforms.topics import copying_of, topic_setting_of
from mqttproxy.validation.transforms.values import casting_of, converting_of, masking_of

DEFAULT_LIMITS: Final = LimitSettings()


@frozen
class Result:
    """What a document has become, and the topic of its message."""

    document: Any
    topic: str


@frozen
class Transform:
    """Steps in their order. Immutable; the same for all messages."""

    doings: tuple[Doing, ...]
    room: int  # bytes that they may put in
    topical: tuple[Doing, ...] = ()  # those that set the topic

    def apply(self, document: Any, context: Context) -> Any:
        """Return what the document becomes. The one given stays as it is.

        Args:
            document: JSON, as decoded by `gate.read` or a contract's `document`.
            context: of its message.

        Raises:
            TransformError: a step cannot be done.

        """
        return self.run(document, context).document

    def run(self, document: Any, context: Context, *, is_ours: bool = False) -> Result:
        """Return the same with the topic that the message gets. `is_ours`: the document may change."""
        draft = Draft(document, self.room, is_ours=is_ours)
        for do in self.doings:
            try:
                do(draft, context)
            except RecursionError:
                raise TransformError("", "nested too deeply") from None
        return Result(draft.document, draft.new_topic or context.topic)

    def topic_alone(self, context: Context) -> str | None:
        """Return the topic that a message without a payload gets, or None: it keeps its own.

        Raises:
            TransformError: as `apply`.

        """
        draft = Draft(None, self.room)
        for do in self.topical:
            do(draft, context)
        return draft.new_topic


def compile_steps(steps: Sequence[Step], key: bytes = b"", limits: LimitSettings = DEFAULT_LIMITS) -> Transform:
    """Make steps ready, which `config.transform_checks.check_steps` has found good.

    Args:
        steps: in order.
        key: of hashes; needed where a step asks for one.
        limits: bounds of the result.

    """
    doings = tuple(_doing(step, key, limits) for step in steps)
    topical = tuple(do for step, do in zip(steps, doings, strict=True) if isinstance(step, SetTopic))
    return Transform(doings, limits.payload_size, topical)


def _doing(step: Step, key: bytes, limits: LimitSettings) -> Doing:
    match step:
        case Mask():
            return masking_of(step, key)
        case SetTopic():
            return topic_setting_of(step, max_bytes=limits.topic_bytes, max_levels=limits.topic_levels)
    make: Any = _MAKERS[type(step)]
    doing: Doing = make(step)
    return doing


_MAKERS: Final[dict[type[Step], Any]] = {
    Set: setting_of,
    Remove: removal_of,
    Rename: renaming_of,
    Move: moving_of,
    Cast: casting_of,
    Unit: converting_of,
    CopyTopic: copying_of,
}
