"""Who sent a message."""

from collections.abc import Mapping

from msgspec import Struct


class Identity(Struct, frozen=True, weakref=True):
    """The sender as the proxy knows it, made once for a connection.

    `address` is the peer's IP address, `listener` the name of the one it came in by, `attributes` what
    `[[access.attributes]]`, its authenticator and the listener say of it: texts without wildcards, separators and
    control characters. `grants` is what its credentials themselves allow: "publish" or "subscribe", and a topic filter.
    `is_authenticated`: an authenticator let it in; else its user name is only what it says.
    """

    client_id: str
    username: str | None
    address: str
    listener: str
    attributes: Mapping[str, str] = {}  # msgspec gives each its own
    grants: tuple[tuple[str, str], ...] = ()
    is_authenticated: bool = False


def identity_of_upstream(name: str) -> Identity:
    """Return the sender of what an upstream sends: it has no client identifier, and comes in by no listener."""
    return Identity(client_id="", username=None, address=name, listener=f"upstream:{name}")
