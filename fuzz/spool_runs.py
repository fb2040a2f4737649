"""Target `spool_runs`: whatever a disk gives back, each message of a run is what was written, or is told as damaged.

Input: one byte of choices, then bytes. They are (even) a run as it stands, (odd) the contents of its frames, divided by
zeros twice, whose lengths and checksums are made here; (bit 2) with a run of our own of which they say what is damaged.
"""

from struct import pack
from typing import Final
from zlib import crc32

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.spool.encoding import FRAME, UNKNOWN, Batch, Record, Sender, decode_run

WORDS = (
    b"\x91",
    b"\xc4\x00",
    b"\xa1a",
    b"\xd9\x01a",
    b"\xdc\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xc0",
    b"\xcb",
    b"\0\0",
    b"\x94\xa1t\xc4\x01x\x01\x00",
)
_SEALED: Final = 7
_SENDERS: Final = ((0, Sender("d", "u", "::1", "tls")), (5, Sender("e", None, "::2", "tcp")))
_ITEMS: Final = [
    (Message(f"t/{number}", b"x" * number, number % 3, properties=Properties(content_type="c")), number)
    for number in range(12)
]
_RUN: Final = bytes(Batch(_ITEMS, _SENDERS).encode(_SEALED))
_WHOLE: Final = decode_run(_RUN, len(_ITEMS), 0, _SEALED)

_damages = st.lists(st.integers(0, 255), min_size=3, max_size=12).map(lambda some: bytes((2, *some)))
strategy: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=60), st.binary(max_size=60).map(lambda some: b"\1" + some), st.just(b"\0" + _RUN), _damages
)


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: which messages came back."""
    flags, rest = data[0] if data else 0, data[1:]
    if flags & 2:
        return _damaged(rest)
    skip = flags >> 2 & 3
    messages = flags >> 4
    run = _framed(rest) if flags & 1 else rest
    found = decode_run(run, messages, skip, _SEALED)
    assert len(found) == max(messages - skip, 0)
    for one in found:
        if one is not None:
            record, sender = one
            assert isinstance(record, Record)
            assert isinstance(sender, Sender)
    return tuple(None if one is None else one[1] is UNKNOWN for one in found[:4])


def _damaged(changes: bytes) -> object:
    """Change a run of our own byte by byte, or cut it; no message of it may become another one."""
    run = bytearray(_RUN)
    for place, value in zip(changes[::3], changes[1::3], strict=False):
        run[place * len(run) // 256] ^= value
    if changes and changes[-1] & 1:
        del run[changes[-1] * len(run) // 256 :]
    found = decode_run(bytes(run), len(_ITEMS), 0, _SEALED)
    assert len(found) == len(_ITEMS)
    for one, written in zip(found, _WHOLE, strict=True):
        assert written is not None
        assert one is None or one[0] == written[0]
        assert one is None or one[1] in (written[1], UNKNOWN)
    return tuple(one is None for one in found[::FRAME]), changes[-1:] == b"\1"


def _framed(contents: bytes) -> bytes:
    frames = contents.split(b"\0\0")
    return b"".join(
        pack("<II", len(frame), crc32(frame, _SEALED + number)) + frame for number, frame in enumerate(frames)
    )
