"""What settings are made of: their types beyond Python's own, and how one is declared."""

from typing import Any, Final, Literal, NewType

from attrs import field, frozen

Seconds = NewType("Seconds", float)  # written "30s", "10m", "7d", or a number of seconds
Bytes = NewType("Bytes", int)  # written "16MiB", "64KiB", or a number of bytes
Count = NewType("Count", int)  # a positive whole number
Address = NewType("Address", str)  # "host:port"
TopicFilter = NewType("TopicFilter", str)  # a valid topic filter, not a shared subscription
TopicPattern = NewType("TopicPattern", str)  # a topic filter with `{name}` in the place of `+`

REQUIRED: Final = object()


@frozen
class Quorum:
    """Written `{ quorum = 2 }`: so many destinations."""

    destinations: int


Ack = Literal["memory", "spool", "any", "all"] | Quorum

LOCAL: Final = "local"  # the destination and home that is the proxy itself
MOST_DESTINATIONS: Final = 62  # upstreams: each has a bit in a column of the spool


def setting(default: Any, text: str, *, secret: bool = False) -> Any:
    """Declare one setting with its default (`REQUIRED`: none; a list or table: a factory) and its meaning.

    A secret is never shown: not in a repr, not in a fault.
    """
    metadata = {"text": text, "secret": secret}
    if default is REQUIRED:
        return field(repr=not secret, metadata=metadata)
    return field(default=default, repr=not secret, metadata=metadata)
