"""A sender as the proxy would know it, made from what somebody writes of it."""

from collections.abc import Iterable

from mqttproxy.access import UnsafeAttributeError, attributes_of
from mqttproxy.config.case_files import UPSTREAM
from mqttproxy.config.model import ProxyConfig
from mqttproxy.validation import Identity, identity_of_upstream


class NoSuchSenderError(ValueError):
    """Nobody like this can send anything here; in words."""


class NotLetInError(NoSuchSenderError):
    """A device like this is refused when it connects."""


def sender(
    config: ProxyConfig,
    *,
    client_id: str,
    username: str | None = None,
    address: str = "",
    listener: str | None = None,
    attributes: Iterable[tuple[str, str]] = (),
) -> Identity:
    """Return who a message comes from.

    Args:
        config: checked.
        client_id: of the device.
        username: its user name.
        address: its IP address.
        listener: where it came in, `upstream:<name>` for an upstream; None: by the first.
        attributes: beside those that are found as for a live device, and before them: such as a property of CONNECT
            would give.

    Raises:
        NoSuchSenderError: there is no such listener or upstream.
        NotLetInError: a device like this is not let in.

    """
    if listener is not None and listener.startswith(UPSTREAM):
        name = listener.removeprefix(UPSTREAM)
        if all(upstream.name != name for upstream in config.upstreams):
            raise NoSuchSenderError(f"there is no upstream {name!r} in the configuration")
        return identity_of_upstream(name)
    found = [one for one in config.listeners if listener in (None, one.name)]
    if not found:
        raise NoSuchSenderError(f"there is no listener {listener!r} in the configuration")
    try:
        known = attributes_of(config.access, found[0].attributes, client_id, username)
    except UnsafeAttributeError as error:
        words = error.reason.name.lower().replace("_", " ")
        raise NotLetInError(f"the device is not let in (0x{error.reason:02X} {words}): {error}") from error
    return Identity(client_id, username, address, found[0].name, {**known, **dict(attributes)})
