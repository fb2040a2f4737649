"""The identity of a message, stable over resends and restarts: `<node>.<start of the process>.<number>`.

MQTT 5 upstreams get it as user property `mp-id`, so that whoever stores messages can store each once.
"""

from collections.abc import Callable
from typing import Final

from mqttproxy.handover import Ticket
from mqttproxy.mqtt.encode_publish import user_property
from mqttproxy.spool import Entry
from mqttproxy.upstream.guard import MESSAGE_ID

_HEAD: Final = user_property(MESSAGE_ID)


class Passports:
    """Writes identities. One for the process."""

    def __init__(self, node: str, epoch: Callable[[], int]) -> None:
        """Make it.

        Args:
            node: `proxy.id`.
            epoch: which start of the process this is, known once the journal is loaded.

        """
        self._node: Final = node.encode()
        self._epoch: Final = epoch

    def identify(self, token: object) -> bytes:
        """Return the user property for the message of this token, encoded."""
        if isinstance(token, Entry):
            value = b"%s.%d.%d" % (self._node, token.epoch, token.number)
        else:
            number = token.number if isinstance(token, Ticket) else token if isinstance(token, int) else 0
            value = b"%s.%d.%d" % (self._node, self._epoch(), number)
        return _HEAD + len(value).to_bytes(2, "big") + value
