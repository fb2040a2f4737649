"""The steps between topic and payload: `copy_topic`, `set_topic`."""

from collections.abc import Callable

import orjson

from mqttproxy.config.templates import Capture, Level, Part, Value, parse_template
from mqttproxy.config.transforms import CopyTopic, SetTopic
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.topics import check_topic_name
from mqttproxy.validation.transforms.context import Context
from mqttproxy.validation.transforms.draft import Draft, Path, path_of
from mqttproxy.validation.transforms.errors import TransformError
from mqttproxy.validation.transforms.members import MISSING, Doing, complain
from mqttproxy.validation.words import NAME_LENGTH, cut, shown

Says = Callable[[Context], str | None]


def copying_of(step: CopyTopic) -> Doing:
    """Return what does a `copy_topic` step."""
    fails, keeps = step.if_missing == "fail", step.if_present == "keep"
    says = [_said(part, fails=fails) for part in parse_template(step.from_) or ()]
    path = path_of(step.to)
    name = len(path[-1].name) + 4 if path else 4

    def do(draft: Draft, context: Context) -> None:
        texts = [say(context) for say in says]
        if None in texts:
            return
        text = "".join(texts)  # type: ignore[arg-type] # none of them is None
        places, missing = draft.make(draft.top, path)
        complain(missing, fails=fails)
        for place in places:
            if not (keeps and draft.is_there(place)):
                draft.grow(len(text) + name)
                draft.put(place, text)

    return do


def topic_setting_of(step: SetTopic, *, max_bytes: int, max_levels: int) -> Doing:
    """Return what does a `set_topic` step."""
    fails = step.if_missing == "fail"
    parts = parse_template(step.to) or ()
    says = [_said(part, fails=fails) for part in parts]
    paths = [path_of(part.pointer) if isinstance(part, Value) else None for part in parts]

    def do(draft: Draft, context: Context) -> None:
        texts = []
        for say, path in zip(says, paths, strict=True):
            text = say(context) if path is None else _of_payload(draft, path, fails=fails)
            if text is None:
                return
            texts.append(text)
        topic = "".join(texts)
        try:
            check_topic_name(topic, max_bytes=max_bytes, max_levels=max_levels)
        except RemoteProtocolError as error:
            raise TransformError("", f"no topic can be made: {error}") from None
        if topic[0] == "$":
            raise TransformError("", "the topic would begin with $")
        draft.new_topic = topic

    return do


def _said(part: Part, *, fails: bool) -> Says:
    """Return what says a part of the topic; it says None if there is none and that is no failure."""
    match part:
        case Capture(name):
            return lambda context: context.captures[name]
        case Level(0):
            return lambda context: context.topic
        case Level(number):
            return lambda context: _level(context.topic, number, fails=fails)
    return lambda _: str(part)


def _level(topic: str, number: int, *, fails: bool) -> str | None:
    levels = topic.split("/")
    if number <= len(levels):
        return levels[number - 1]
    if fails:
        raise TransformError("", f"{MISSING}: the topic {cut(topic, NAME_LENGTH)!r} has no level {number}")
    return None


def _of_payload(draft: Draft, path: Path, *, fails: bool) -> str | None:
    """Return a value of the payload as part of a topic level; what could lead elsewhere is none."""
    places, missing = draft.find(draft.top, path)
    complain(missing, fails=fails)
    if not places:
        return None
    (place,) = places
    value = place.holder[place.key]
    if isinstance(value, str):
        text = value
    elif isinstance(value, int | float):
        text = orjson.dumps(value).decode()
    else:
        raise TransformError(place.pointer, f"{shown(value)} cannot be part of a topic")
    if not text or any(character in "/+#" for character in text):
        raise TransformError(place.pointer, f"{shown(value)} is empty or has one of / + #, so no part of a topic")
    return text
