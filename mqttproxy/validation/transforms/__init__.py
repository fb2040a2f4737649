"""What changes documents: the steps of `transforms`, and masks. Computes only; the key of hashes comes in.

transform   `compile_steps`, `Transform`: a list of steps at work on documents, `Context`
carrying    `Carrier`: a transform at work on messages, with what reads and writes their payloads
draft       a document that is changed without touching the one it was made from
members, values, topics   the steps
masker      `Masker`: what is shown of payloads
errors      `TransformError`
"""

from mqttproxy.validation.transforms.carrying import Carrier, Codec, JsonCodec, TopicCarrier
from mqttproxy.validation.transforms.context import Context
from mqttproxy.validation.transforms.errors import TransformError
from mqttproxy.validation.transforms.masker import NO_MASKS, Masker, make_masker
from mqttproxy.validation.transforms.transform import Result, Transform, compile_steps

__all__ = [
    "NO_MASKS",
    "Carrier",
    "Codec",
    "Context",
    "JsonCodec",
    "Masker",
    "Result",
    "TopicCarrier",
    "Transform",
    "TransformError",
    "compile_steps",
    "make_masker",
]
