"""Who sent a message."""

from msgspec import Struct


class Identity(Struct, frozen=True, gc=False):
    """The sender as the proxy knows it, made once for a connection.

    `address` is the peer's IP address, `listener` the name of the one it came in by.
    """

    client_id: str
    username: str | None
    address: str
    listener: str
