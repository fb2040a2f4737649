"""Against loops: what a message says of the proxies it has passed, as user properties of MQTT 5.

A message goes to an upstream with `mqttproxy-hops`, how many proxies it has passed, and `mqttproxy-origin`, the first
of them. Coming from a device (which may be a bridge, or another proxy) with too many hops, or with this proxy's own
name, it has gone round. From an upstream it is delivered whatever it says: a proxy carries nothing from one upstream to
another, so only what devices publish can go round; and what a broker sends back to a subscriber is no loop.

`mqttproxy-sender` goes along when the sender must not get its own message back (No Local), and its home is an upstream
that knows only us: a keyed hash of the client identifier, taken off again on the way down.
"""

from collections.abc import Callable
from enum import Enum
from hashlib import blake2b
from secrets import token_bytes
from typing import Final, TypeVar

from msgspec.structs import replace

from mqttproxy.mqtt.encode_publish import Stamp, stamp
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message

PREFIX: Final = "mqttproxy-"  # of names that only proxies may use
HOPS: Final = f"{PREFIX}hops"
ORIGIN: Final = f"{PREFIX}origin"
SENDER: Final = f"{PREFIX}sender"
MESSAGE_ID: Final = "mp-id"
HELD_ID: Final = "mp-held-id"  # of a message that was released from the quarantine: its identifier there
HELD_AT: Final = "mp-held-at"  # and when it was held
# What a message that failed its contract is marked with (`validation.answers`); from a device it would be a lie.
MARKS: Final = frozenset({"mp-policy", "mp-schema", "mp-pointer", MESSAGE_ID, HELD_ID, HELD_AT})

MOST_HOPS: Final = 1000  # counted; whatever says more says this
SENDERS_LIMIT: Final = 100_000  # clients whose hashes are known again

M = TypeVar("M", bound=Message)


class Loop(Enum):
    """The message has gone round."""

    LOOP = "loop"


LOOP: Final = Loop.LOOP


def stamp_of(proxy_id: str) -> Stamp:
    """Return what a message gets that no proxy has seen before."""
    return stamp(((HOPS, "1"), (ORIGIN, proxy_id)))


def admit(message: M, own_id: str, limit: int) -> M | Loop:
    """Return a device's message as it may be carried: without what only proxies may say, one hop more.

    Args:
        message: with user properties; of one without there is nothing to say.
        own_id: `proxy.id`.
        limit: hops with which a message may come, `proxy.hop_limit`.

    """
    given = message.properties.user_properties
    if not any(_is_reserved(name) for name, _ in given):
        return message
    hops = max((_number(value) for name, value in given if name == HOPS), default=0)
    origins = [value for name, value in given if name == ORIGIN]
    if hops > limit or own_id in origins:
        return LOOP
    kept = [(name, value) for name, value in given if not _is_reserved(name)]
    if hops:
        kept += ((HOPS, str(hops + 1)), (ORIGIN, origins[0] if origins else ""))
    return _with(message, kept)


class Senders:
    """The hashes that tell our own devices' messages, and whose they are. For one process: the key is drawn here."""

    def __init__(self, draw: Callable[[int], bytes] = token_bytes) -> None:
        self._key = draw(32)
        self._client_ids: dict[str, str] = {}  # by hash, the latest last

    def signed(self, message: M, client_id: str) -> M:
        """Return the message as it goes to upstreams, if its sender must not get it back."""
        signature = blake2b(client_id.encode(), key=self._key, digest_size=12).hexdigest()
        if self._client_ids.pop(signature, None) is None and len(self._client_ids) >= SENDERS_LIMIT:
            del self._client_ids[next(iter(self._client_ids))]
        self._client_ids[signature] = client_id
        return _with(message, [*message.properties.user_properties, (SENDER, signature)])

    def unsigned(self, message: M) -> tuple[M, str]:
        """Return an upstream's message without the hash, and the client identifier of its sender; empty: not known."""
        given = message.properties.user_properties
        signature = next((value for name, value in given if name == SENDER), None)
        if signature is None:
            return message, ""
        kept = [(name, value) for name, value in given if name != SENDER]
        return _with(message, kept), self._client_ids.get(signature, "")


def without_stamps(message: M) -> M:
    """Return the message without what proxies have said on it: for an upstream with `loop_guard = false`."""
    given = message.properties.user_properties
    kept = [(name, value) for name, value in given if not (name.startswith(PREFIX) or name == MESSAGE_ID)]
    return message if len(kept) == len(given) else _with(message, kept)


def _with(message: M, user_properties: list[tuple[str, str]]) -> M:
    properties = replace(message.properties, user_properties=tuple(user_properties))
    return replace(message, properties=NO_PROPERTIES if properties == NO_PROPERTIES else properties)


def _is_reserved(name: str) -> bool:
    return name.startswith(PREFIX) or name in MARKS


def _number(text: str) -> int:
    """Return what a number of hops says; what is none says as much as none."""
    return min(int(text), MOST_HOPS) if text.isascii() and text.isdigit() and len(text) <= 4 else 0
