"""What settings are made of: their types beyond Python's own, and how one is declared."""

from collections.abc import Iterator
from typing import Any, Final, Literal, NewType, get_args, get_origin

from attrs import field, fields, frozen, has

Seconds = NewType("Seconds", float)  # written "30s", "10m", "7d", or a number of seconds
Bytes = NewType("Bytes", int)  # written "16MiB", "64KiB", or a number of bytes
Count = NewType("Count", int)  # a positive whole number
Address = NewType("Address", str)  # "host:port"
TopicFilter = NewType("TopicFilter", str)  # a valid topic filter, not a shared subscription
Network = NewType("Network", str)  # "10.0.0.0/8", "2001:db8::/32" or a single address
TopicPattern = NewType("TopicPattern", str)  # a topic filter with `{name}` in the place of `+`
TopicTemplate = NewType("TopicTemplate", str)  # a topic filter with `${name}` for what is known of a device

PolicyTopic = NewType("PolicyTopic", str)  # a topic filter, with `{name}` in the place of `+` where it has a name
Conditions = NewType("Conditions", tuple[tuple[str, tuple[str, ...]], ...])  # by name, a glob or comparison, or some
Windows = NewType("Windows", str)  # "10:1,300:60": so much in so many seconds, several of those
Labels = NewType("Labels", tuple[tuple[str, str], ...])  # a text for each name

JsonValue = NewType("JsonValue", object)  # what can be written as JSON

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


def table_class(kind: Any) -> Any | None:
    """Return the class of the tables that a setting of this type is a list of, or None: it is something else."""
    if get_origin(kind) is not tuple:
        return None
    item = get_args(kind)[0]
    return item if has(item) else None


def file_key(name: str) -> str:
    """Return what the setting of an attribute is called in the file: `from` is no name for an attribute."""
    return name.removesuffix("_")


def inner_tables(kind: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield the tables within a table of this class: name, class, and whether there may be many."""
    for attribute in fields(kind):
        if (item := table_class(attribute.type)) is not None:
            yield attribute.name, item, True
        elif has(attribute.type):
            yield attribute.name, attribute.type, False
