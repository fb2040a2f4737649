"""The rows of framing (A) and of strings and topics (B): what is sent in which state, and what must come back.

Each row stands for one version. Where brokers differ, `reasons` holds all that would do; the first is what we send.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from attrs import frozen

from tests.bad_input.wire import (
    V5,
    V311,
)

MALFORMED, PROTOCOL, CLIENT_ID, METHOD = 0x81, 0x82, 0x85, 0x8C
FILTER, NAME, TOO_LARGE, QUOTA, NOT_AUTHORIZED = 0x8F, 0x90, 0x95, 0x97, 0x87

State = Literal["new", "open"]


@frozen
class Row:
    """One case.

    Attributes:
        id: of the catalogue.
        name: what is wrong.
        version: protocol level.
        state: new: these are the first bytes; open: CONNECT was accepted, and one good PUBLISH came right before.
        send: byte for byte.
        expected: the connection is closed, with CONNACK or DISCONNECT before it; or `answer` comes and it stays open.
        reasons: that the last words may say; empty: nothing may be said.
        answer: exact bytes; with `reasons`, those of the plain acknowledgement that becomes a refusal.
        counted: label of the counter that must move; "" where none is meant to.
        received: messages of `send` that are good.
        any_of: any of `reasons` is right, and not only the first.

    """

    id: str
    name: str
    version: int
    state: State
    send: bytes
    expected: Literal["closed", "connack", "disconnect", "answer"]
    reasons: tuple[int, ...] = ()
    answer: bytes = b""
    received: int = 0
    any_of: bool = False

    def __str__(self) -> str:
        """Return what pytest shows."""
        return f"{self.id}-{'5' if self.version == V5 else '3.1.1'}-{self.state}-{self.name}".replace(" ", "_")


@frozen
class Play:
    """A row, and how it is sent: in one piece or byte by byte."""

    row: Row
    cut: bool

    def __str__(self) -> str:
        """Return what a failure says."""
        return f"{self.row}, {'byte by byte' if self.cut else 'whole'}"


def broken(identifier: str, name: str, send: dict[int, bytes], *reasons: int) -> Iterator[Row]:
    """Give rows in an open connection: 3.1.1 is just closed, 5.0 reads DISCONNECT with the reason."""
    for version, data in send.items():
        if version == V311:
            yield Row(identifier, name, version, "open", data, "closed")
        else:
            yield Row(identifier, name, version, "open", data, "disconnect", reasons)


def unwelcome(
    identifier: str, name: str, send: dict[int, bytes], *reasons: int, told_311: tuple[int, ...] = ()
) -> Iterator[Row]:
    """Give rows for a CONNECT that can be answered: 5.0 reads CONNACK with the reason, 3.1.1 only a code of its own."""
    for version, data in send.items():
        told = reasons if version == V5 else told_311
        yield Row(identifier, name, version, "new", data, "connack" if told else "closed", told)


def nothing(identifier: str, name: str, send: bytes) -> Iterator[Row]:
    """Give a row for first bytes that are no CONNECT: nothing is said."""
    yield Row(identifier, name, V5, "new", send, "closed")


def both(data: bytes) -> dict[int, bytes]:
    return {V311: data, V5: data}


def of(make: "Sequence[bytes]") -> dict[int, bytes]:
    return {V311: make[0], V5: make[1]}
