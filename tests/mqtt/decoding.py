"""Decode what a test wrote by hand: all that comes out of a decoder, and how it ended."""

from mqttproxy.mqtt.decode import DecodeLimits, Decoder
from mqttproxy.mqtt.errors import RemoteProtocolError
from mqttproxy.mqtt.packets import Packet, ProtocolVersion
from mqttproxy.mqtt.reasons import ReasonCode

V5 = ProtocolVersion.V5
LIMITS = DecodeLimits()
MEGABYTE = 1024 * 1024

Outcome = tuple[list[Packet], ReasonCode | None]


def decoder(version: ProtocolVersion = V5, limits: DecodeLimits = LIMITS) -> Decoder:
    return Decoder(version=version, max_packet_size=MEGABYTE, limits=limits, topic_alias_maximum=3)


def drain(ours: Decoder) -> Outcome:
    """Return everything that comes out, and the reason if it ends in an error."""
    found: list[Packet] = []
    try:
        while batch := ours.packets():
            found += batch
    except RemoteProtocolError as error:
        assert ours.buffered == 0
        return found, error.reason
    return found, None


def decode(version: ProtocolVersion, *pieces: bytes, limits: DecodeLimits = LIMITS) -> Outcome:
    """Feed the pieces one after the other and drain after each."""
    ours = decoder(version, limits)
    found: list[Packet] = []
    for piece in pieces:
        ours.feed(piece)
        batch, reason = drain(ours)
        found += batch
        if reason is not None:
            return found, reason
    return found, None


def hexed(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))
