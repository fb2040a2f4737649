"""Topic aliases of what we send (MQTT 5.0, 3.3.2.3.4): a number for a topic name that was said before.

A topic gets its alias when it is said the second time on a connection, while there are aliases left; it keeps it until
the connection ends. There is no replacing: with more topics than aliases it would mostly cost.
"""

from typing import Final

from mqttproxy.mqtt.encode_publish import NO_STAMP, Stamp, encode_aliased_into, encode_publish_into, topic_field
from mqttproxy.mqtt.packets import Message, ProtocolVersion

_SHORTEST: Final = 8  # characters; an alias takes 3 bytes itself
_SEEN: Final = 256  # topics said once that are remembered


class TopicAliases:
    """The aliases of one connection; `encode_into` stands in for `encode_publish_into`."""

    __slots__ = ("_aliases", "_maximum", "_packet_size", "_seen")

    def __init__(self, maximum: int, packet_size: int) -> None:
        """Begin without any.

        Args:
            maximum: how many there may be, at most what the peer takes.
            packet_size: what the peer takes, in bytes.

        """
        self._maximum = maximum
        self._packet_size = packet_size
        self._aliases: dict[str, tuple[int, int]] = {}  # alias, and the bytes it may save
        self._seen: set[str] = set()

    def encode_into(  # noqa: PLR0917 # as what it stands in for
        self,
        out: bytearray,
        message: Message,
        version: ProtocolVersion,
        packet_id: int,
        dup: bool,
        stamped: Stamp = NO_STAMP,
    ) -> None:
        """Append a PUBLISH, its topic by alias where that is known, with one where it is worth it.

        What was sent before goes without: how often that happens is not worth an alias.
        Where it would not fit without an alias it is written without: the caller finds it too large, as he will when it
        must be sent again.
        """
        known = None if dup else self._aliases.get(message.topic)
        if known is not None:
            alias, saved = known
            start = len(out)
            encode_aliased_into(out, message, packet_id, alias, b"\0\0", stamped)
            if len(out) - start + saved <= self._packet_size:
                return
            del out[start:]
        elif not dup and len(self._aliases) < self._maximum and self._is_worth_it(message.topic):
            start = len(out)
            field = topic_field(message.topic)
            alias = len(self._aliases) + 1
            encode_aliased_into(out, message, packet_id, alias, field, stamped)
            if len(out) - start <= self._packet_size:
                self._aliases[message.topic] = alias, len(field)
                if alias == self._maximum:
                    self._seen.clear()
                return
            del out[start:]
        encode_publish_into(out, message, version, packet_id, dup, stamped)

    def _is_worth_it(self, topic: str) -> bool:
        if len(topic) < _SHORTEST:
            return False
        if topic in self._seen:
            return True
        if len(self._seen) >= _SEEN:
            self._seen.clear()
        self._seen.add(topic)
        return False
