"""What is shown of payloads, in the audit trail, in logs and in the views of the quarantine: `[[masks]]`."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from attrs import frozen
from msgspec.structs import replace

from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.pointers import ALL, parse_pointer, parts_of
from mqttproxy.config.transforms import MaskSettings
from mqttproxy.mqtt.topics import FilterTree
from mqttproxy.validation.gate import PayloadError
from mqttproxy.validation.transforms.carrying import CACHED_TOPICS, Codec, json_codec
from mqttproxy.validation.transforms.draft import Draft, Path, hops
from mqttproxy.validation.transforms.errors import TransformError
from mqttproxy.validation.transforms.members import remove_all
from mqttproxy.validation.transforms.values import Change, masked
from mqttproxy.validation.verdict import Failure, Verdict

HIDDEN: Final = "***"  # instead of a value that the mask cannot make a name for
SILENT: Final = "told of a masked value"  # instead of words that may quote one
_ROOM: Final = 1 << 62


@frozen
class _Mask:
    parts: tuple[str, ...]
    path: Path
    change: Change | None  # None: dropped

    def covers(self, parts: Sequence[str]) -> bool:
        """Tell whether a pointer leads to what is masked, or into it."""
        return len(parts) >= len(self.parts) and all(
            own in (ALL, part) for own, part in zip(self.parts, parts, strict=False)
        )


class Masker:
    """All masks of a generation. Immutable but for its memory. Nothing here raises, whatever the payload is."""

    def __init__(
        self, masks: Iterable[tuple[Sequence[str], Sequence[_Mask]]], codec: Codec | None, *, stored: bool = False
    ) -> None:
        """Make one.

        Args:
            masks: topic filters, and what is masked in their payloads.
            codec: reads and writes the payloads.
            stored: the quarantine keeps payloads masked.

        """
        self._masks: list[tuple[_Mask, ...]] = []
        self._tree: FilterTree[int] = FilterTree()
        self._codec = codec
        self.stored = stored
        for place, (topics, several) in enumerate(masks):
            self._masks.append(tuple(several))
            for topic in topics:
                self._tree.add(topic, place)
        self._known: dict[str, tuple[_Mask, ...]] = {}

    def mask(self, document: Any, topic: str) -> Any:
        """Return a document as it may be shown; the one given stays as it is."""
        masks = self._of(topic)
        if not masks:
            return document
        draft = Draft(document, _ROOM)
        try:
            for mask in masks:
                places, _ = draft.find(draft.top, mask.path)
                if mask.change is None:
                    remove_all(places)
                    continue
                for place in places:
                    place.holder[place.key] = _changed(mask.change, place.holder[place.key])
        except TransformError:  # it is too large to look through
            return HIDDEN
        return draft.document

    def payload(self, payload: bytes, topic: str) -> bytes:
        """Return a payload as it may be shown. What cannot be read as JSON is not shown at all."""
        if not payload or not self._of(topic) or self._codec is None:
            return payload
        try:
            return self._codec.encode(self.mask(self._codec.document(payload), topic))
        except PayloadError:
            return f"{HIDDEN} {len(payload)} bytes that cannot be masked".encode()

    def veil(self, topic: str, payload: bytes, failures: Sequence[Any]) -> tuple[bytes, Sequence[Any]]:
        """Return both as they may be shown, for the audit trail."""
        return self.payload(payload, topic), self.failures(failures, topic)

    def verdict(self, verdict: Verdict, topic: str) -> Verdict:
        """Return a verdict as it may be told to anybody but the device."""
        if not verdict.failures or not self._of(topic):
            return verdict
        parts = tuple(self.verdict(part, topic) for part in verdict.parts)
        return replace(verdict, failures=self.failures(verdict.failures, topic), parts=parts)

    def failures(self, failures: Sequence[Failure], topic: str) -> tuple[Failure, ...]:
        """Return failures as they may be told: words about a masked value may quote it."""
        masks = self._of(topic)
        if not masks:
            return tuple(failures)
        return tuple(
            replace(failure, message=SILENT) if _is_covered(masks, failure.pointer) else failure for failure in failures
        )

    def _of(self, topic: str) -> tuple[_Mask, ...]:
        if not self._masks:
            return ()
        found = self._known.get(topic)
        if found is None:
            if len(self._known) >= CACHED_TOPICS:
                self._known.clear()
            places = sorted(set(self._tree.match(topic)))
            found = self._known[topic] = tuple(mask for place in places for mask in self._masks[place])
        return found


def _is_covered(masks: Sequence[_Mask], pointer: str) -> bool:
    parts = parse_pointer(pointer)
    if parts is None or "…" in pointer or "\\u" in pointer:  # as shown, not as it is
        return True
    return any(mask.covers(parts) for mask in masks)


def _changed(change: Change, value: Any) -> Any:
    try:
        return change(value)
    except ValueError:
        return HIDDEN


def make_masker(config: ProxyConfig, key: bytes = b"") -> Masker:
    """Return the masker of a checked configuration. `key` is that of `[masking]`."""
    if not config.masks:
        return NO_MASKS
    masks = [(mask.topics, [_made(mask, path, key) for path in mask.paths]) for mask in config.masks]
    return Masker(masks, json_codec(config.payload), stored=config.masking.stored)


def _made(mask: MaskSettings, pointer: str, key: bytes) -> _Mask:
    parts = parts_of(pointer)
    change = None if mask.how == "drop" else masked(mask.how, mask.length, key)
    return _Mask(parts, hops(parts), change)


NO_MASKS: Final = Masker((), None)
