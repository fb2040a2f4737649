"""What steps know beside the document: where the message was published."""

from collections.abc import Mapping
from typing import Final

from attrs import frozen

_NOTHING: Final[Mapping[str, str]] = {}


@frozen
class Context:
    """The topic of one message, and what the captures of a topic pattern stand for in it."""

    topic: str
    captures: Mapping[str, str] = _NOTHING
