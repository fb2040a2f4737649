"""The rows of framing (A) and of strings and topics (B): what is sent in which state, and what must come back.

Each row stands for one version. Where brokers differ, `reasons` holds all that would do; the first is what we send.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from attrs import frozen

from tests.bad_input.wire import (
    V5,
    V311,
    connect,
    connect_with_will,
    frame,
    optional,
    pair,
    properties,
    publish,
    suback,
    subscribe,
    text,
    unsubscribe,
    varint,
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

    def __str__(self) -> str:
        """Return what pytest shows."""
        return f"{self.id}-{'5' if self.version == V5 else '3.1.1'}-{self.state}-{self.name}".replace(" ", "_")


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


def each(*pairs: tuple[int, bytes]) -> dict[int, bytes]:
    return dict(pairs)


def of(make: "Sequence[bytes]") -> dict[int, bytes]:
    return {V311: make[0], V5: make[1]}


def a1() -> Iterator[Row]:
    for name, length in (("5 bytes", b"\xff\xff\xff\xff\x7f"), ("continued on the 4th", b"\x80\x80\x80\x80\x01")):
        yield from broken("A1", f"length {name}", both(b"\x30" + length), MALFORMED)
        yield from nothing("A1", f"length {name}", b"\x10" + length)
    smuggled = b"".join([b"\x30\x80\x80\x80\x80\x01", publish(V311, "t", b"smuggled", qos=1) * 20])
    yield from broken("A1", "commands behind it", both(smuggled), MALFORMED)


def a2() -> Iterator[Row]:
    yield from broken("A2", "empty packet", both(b"\xc0\x80\x00"), MALFORMED)
    yield from broken("A2", "publish", both(b"\x30\x84\x00\x00\x01t\x00"), MALFORMED)
    yield from broken("A2", "properties", {V5: b"\x30\x05\x00\x01t\x80\x00"}, MALFORMED)
    yield from broken("A2", "subscription identifier", {V5: subscribe(V5, "t", fields=[b"\x0b\x81\x00"])}, MALFORMED)
    yield from nothing("A2", "connect", b"\x10\x8c\x00" + connect(V311)[2:])


def a3() -> Iterator[Row]:
    yield from broken("A3", "256 MB and silence", both(b"\x30\xff\xff\xff\x7f"), TOO_LARGE)
    yield from broken("A3", "one byte too many", both(b"\x30" + varint(1024 * 1024)), TOO_LARGE)
    yield from broken("A3", "subscribe", both(b"\x82\xff\xff\xff\x7f"), TOO_LARGE)
    yield from nothing("A3", "256 MB and silence", b"\x10\xff\xff\xff\x7f")
    yield from nothing("A3", "64 KiB and one", b"\x10" + varint(64 * 1024))
    payload = bytes(256 * 1024 + 1)
    yield from broken("A3", "payload", {v: publish(v, "t", payload) for v in (V311, V5)}, TOO_LARGE)


def a4() -> Iterator[Row]:
    yield from broken("A4", "publish", {V5: frame(0x30, text("t") + b"\x7f")}, MALFORMED)
    yield from broken("A4", "subscribe", {V5: frame(0x82, b"\x00\x01\x20" + text("t") + b"\x00")}, MALFORMED)
    yield from broken("A4", "disconnect", {V5: frame(0xE0, b"\x00\x05\x11\x00")}, MALFORMED)
    over = frame(0x30, text("t") + b"\x04\x03\x00\x09ab" + bytes(20))
    yield from broken("A4", "string over the properties", {V5: over}, MALFORMED)
    greeting = frame(0x10, text("MQTT") + b"\x05\x02\x00\x3c\x60" + text("c"))
    yield from unwelcome("A4", "connect", {V5: greeting}, MALFORMED)
    will = frame(0x10, text("MQTT") + b"\x05\x06\x00\x3c\x00" + text("c") + b"\x60" + text("w") + text("x"))
    yield from unwelcome("A4", "will", {V5: will}, MALFORMED)


def a5() -> Iterator[Row]:
    versions = (V311, V5)
    yield from broken("A5", "topic over the end", both(b"\x30\x05\x00\x0attt"), MALFORMED)
    yield from broken("A5", "no packet identifier", both(b"\x32\x03\x00\x01t"), MALFORMED)
    start = {v: b"\x00\x01" + optional(v) for v in versions}
    filter_over = {v: frame(0x82, start[v] + b"\x00\x09t\x00") for v in versions}
    yield from broken("A5", "filter over the end", filter_over, MALFORMED)
    yield from broken("A5", "no options", {v: frame(0x82, start[v] + text("t")) for v in versions}, MALFORMED)
    half = {v: frame(0xA2, start[v] + b"\x00") for v in versions}
    yield from broken("A5", "half a filter to leave", half, MALFORMED)
    yield from broken("A5", "pingreq with a body", both(b"\xc0\x01\x00"), MALFORMED)
    more = {V311: b"\x40\x03\x00\x01\x00", V5: b"\x40\x05\x00\x01\x00\x00\x00"}
    yield from broken("A5", "puback with more", more, MALFORMED)
    yield from broken("A5", "pubrel of one byte", both(b"\x62\x01\x00"), MALFORMED)
    yield from broken("A5", "disconnect with more", {V311: b"\xe0\x01\x00", V5: b"\xe0\x03\x00\x00\x00"}, MALFORMED)
    head = {v: text("MQTT") + bytes([v]) + b"\x02\x00\x3c" + optional(v) for v in versions}
    over = {v: frame(0x10, head[v] + b"\x00\x09ab") for v in versions}
    yield from unwelcome("A5", "client identifier over the end", over, MALFORMED)
    yield from unwelcome("A5", "trailing byte", {v: connect(v, payload=b"\x00") for v in versions}, MALFORMED)
    will = {v: connect(v, flags=0x06, payload=optional(v) + text("w")) for v in versions}
    yield from unwelcome("A5", "will without a payload", will, MALFORMED)
    user = {v: connect(v, flags=0x82, payload=b"\xff\xff\x00") for v in versions}
    yield from unwelcome("A5", "user name over the end", user, MALFORMED)
    yield from nothing("A5", "protocol name over the end", frame(0x10, b"\xff\xffMQTT\x05\x02\x00\x3c\x00\x00\x00"))


def a6() -> Iterator[Row]:
    wrong = {
        "subscribe": b"\x80" + subscribe(V311, "t")[1:],
        "unsubscribe": b"\xa0" + unsubscribe(V311, "t")[1:],
        "pubrel": b"\x60\x02\x00\x01",
        "puback": b"\x41\x02\x00\x01",
        "pubrec": b"\x58\x02\x00\x01",
        "pubcomp": b"\x72\x02\x00\x01",
        "pingreq": b"\xc1\x00",
        "disconnect": b"\xe1\x00",
        "QoS 3": b"\x36\x06\x00\x01t\x00\x01x",
        "DUP at QoS 0": b"\x38\x04\x00\x01tx",
        "type 0": b"\x00\x00",
        "type 0 with a body": b"\x0f\x02\x00\x00",
        "connect": b"\x11" + connect(V311)[1:],
    }
    for name, data in wrong.items():
        yield from broken("A6", name, both(data), MALFORMED, PROTOCOL)
    yield from broken("A6", "auth", {V311: b"\xf0\x00"})
    yield from nothing("A6", "connect", b"\x11" + connect(V311)[1:])
    yield from nothing("A6", "type 0", b"\x00\x00")


def a7() -> Iterator[Row]:
    first = {
        "pingreq": b"\xc0\x00",
        "publish": publish(V311, "t", b"x"),
        "subscribe": subscribe(V311, "#"),
        "connack": b"\x20\x02\x00\x00",
        "suback": b"\x90\x03\x00\x01\x00",
        "pingresp": b"\xd0\x00",
        "puback": b"\x40\x02\x00\x01",
        "disconnect": b"\xe0\x00",
        "auth": b"\xf0\x00",
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(194),
        "other protocol": connect(V5, name=b"MQTX"),
    }
    for name, data in first.items():
        if name == "other protocol":
            yield from unwelcome("A7", name, {V5: data}, 0x84)
        else:
            yield from nothing("A7", name, data)
    for name, per_version in {
        "connack": of((b"\x20\x02\x00\x00", b"\x20\x03\x00\x00\x00")),
        "suback": of((suback(V311, 1, 0), suback(V5, 1, 0))),
        "unsuback": of((b"\xb0\x02\x00\x01", b"\xb0\x04\x00\x01\x00\x00")),
        "pingresp": both(b"\xd0\x00"),
    }.items():
        yield from broken("A7", f"{name} from a client", per_version, PROTOCOL)


def a8() -> Iterator[Row]:
    yield from broken("A8", "the same again", {v: connect(v) for v in (V311, V5)}, PROTOCOL)
    yield from broken("A8", "of the other version", {V311: connect(V5), V5: connect(V311)}, PROTOCOL)
    yield from broken("A8", "as another client", {v: connect(v, "other") for v in (V311, V5)}, PROTOCOL)


def a10() -> Iterator[Row]:
    behind = {v: publish(v, "t", b"early", qos=1) + subscribe(v, "#") + b"\xc0\x00" for v in (V311, V5)}
    refused = {V311: connect(V311, "", flags=0), V5: connect(V5, fields=[b"\x15" + text("SCRAM")])}
    sent = {v: refused[v] + behind[v] for v in (V311, V5)}
    yield from unwelcome("A10", "publish behind a refused connect", sent, METHOD, told_311=(2,))
    sent = {v: connect(v, flags=0x03) + behind[v] for v in (V311, V5)}
    yield from unwelcome("A10", "publish behind a broken connect", sent, MALFORMED)


def a11() -> Iterator[Row]:
    many = [pair()] * 65
    yield from broken("A11", "publish", {V5: publish(V5, fields=many)}, QUOTA, TOO_LARGE)
    yield from broken("A11", "subscribe", {V5: subscribe(V5, "t", fields=many)}, QUOTA, TOO_LARGE)
    yield from broken("A11", "disconnect", {V5: frame(0xE0, b"\x00" + properties(*many))}, QUOTA, TOO_LARGE)
    yield from unwelcome("A11", "connect", {V5: connect(V5, fields=many)}, QUOTA, TOO_LARGE)
    yield from broken("A11", "a megabyte", {V5: publish(V5, fields=[pair("", "")] * 200_000)}, QUOTA, TOO_LARGE)
    yield from unwelcome("A11", "60 KB", {V5: connect(V5, fields=[pair("", "")] * 12_000)}, QUOTA, TOO_LARGE)
    yield from broken("A11", "half a pair", {V5: publish(V5, fields=[b"\x26" + text("k")])}, MALFORMED)
    yield from broken("A11", "half a pair of two", {V5: publish(V5, fields=[pair(), b"\x26\x00"])}, MALFORMED)
    allowed = publish(V5, "t", qos=1, packet_id=5, fields=[pair()] * 64)
    yield Row("A11", "64 are fine", V5, "open", allowed, "answer", answer=b"\x40\x02\x00\x05", received=1)


def a12() -> Iterator[Row]:
    for name, field in {"content type": b"\x03" + text("x"), "expiry": b"\x02\x00\x00\x00\x01"}.items():
        yield from broken("A12", f"two of {name}", {V5: publish(V5, fields=[field] * 2)}, PROTOCOL)
    for name, field in {
        "session expiry": b"\x11\x00\x00\x00\x01",
        "receive maximum": b"\x21\x00\x05",
        "request problem information": b"\x17\x00",
    }.items():
        yield from unwelcome("A12", f"two of {name}", {V5: connect(V5, fields=[field] * 2)}, PROTOCOL)
    yield from broken("A12", "two identifiers", {V5: subscribe(V5, "t", fields=[b"\x0b\x01"] * 2)}, PROTOCOL)
    yield from broken("A12", "not of publish", {V5: publish(V5, fields=[b"\x11\x00\x00\x00\x01"])}, MALFORMED, PROTOCOL)
    yield from broken("A12", "not of subscribe", {V5: subscribe(V5, "t", fields=[b"\x01\x00"])}, MALFORMED, PROTOCOL)
    yield from broken("A12", "unknown", {V5: publish(V5, fields=[b"\x7f\x00"])}, MALFORMED, PROTOCOL)
    yield from unwelcome("A12", "not of connect", {V5: connect(V5, fields=[b"\x23\x00\x01"])}, MALFORMED, PROTOCOL)
    for name, field in {
        "receive maximum 0": b"\x21\x00\x00",
        "maximum packet size 0": b"\x27\x00\x00\x00\x00",
        "request problem information 2": b"\x17\x02",
        "request response information 2": b"\x19\x02",
    }.items():
        yield from unwelcome("A12", name, {V5: connect(V5, fields=[field])}, PROTOCOL)
    yield from broken("A12", "payload format 2", {V5: publish(V5, fields=[b"\x01\x02"])}, PROTOCOL)
    yield from broken("A12", "identifier 0", {V5: subscribe(V5, "t", fields=[b"\x0b\x00"])}, PROTOCOL)
    yield from broken("A12", "identifier from a client", {V5: publish(V5, fields=[b"\x0b\x01"])}, PROTOCOL)


BAD_UTF8 = {
    "not UTF-8": b"a\xff",
    "overlong": b"\xc0\x80",
    "overlong slash": b"a\xe0\x80\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "cut short": b"a\xe2\x82",
    "NUL": b"a\x00b",
}
UNWANTED = {
    "U+0001": b"a\x01",
    "escape": b"\x1b[2J",
    "newline": b"a\nb",
    "delete": b"a\x7f",
    "U+0080": b"a\xc2\x80",
    "U+009F": b"\xc2\x9f",
    "U+FFFF": b"\xef\xbf\xbf",
    "U+FDD0": b"\xef\xb7\x90",
    "U+1FFFE": b"\xf0\x9f\xbf\xbe",
}


def strings(identifier: str, bad: dict[str, bytes]) -> Iterator[Row]:
    versions = (V311, V5)
    for name, value in bad.items():
        yield from broken(identifier, f"topic {name}", {v: publish(v, value) for v in versions}, MALFORMED)
        yield from unwelcome(
            identifier,
            f"client identifier {name}",
            {v: connect(v, value) for v in versions},
            CLIENT_ID,
            MALFORMED,
            told_311=(2,),
        )
    name, value = next(iter(bad.items()))
    yield from broken(identifier, f"filter {name}", {v: subscribe(v, value) for v in versions}, MALFORMED)
    yield from broken(identifier, f"filter to leave {name}", {v: unsubscribe(v, value) for v in versions}, MALFORMED)
    yield from unwelcome(
        identifier, f"will topic {name}", {v: connect_with_will(v, value) for v in versions}, MALFORMED
    )
    user = {v: connect(v, flags=0x82, payload=text(value)) for v in versions}
    yield from unwelcome(identifier, f"user name {name}", user, MALFORMED)
    yield from broken(identifier, f"content type {name}", {V5: publish(V5, fields=[b"\x03" + text(value)])}, MALFORMED)
    half = b"\x26" + text("k") + text(value)
    yield from broken(identifier, f"user property {name}", {V5: publish(V5, fields=[half])}, MALFORMED)


def b1() -> Iterator[Row]:
    yield from strings("B1", BAD_UTF8)


def b2() -> Iterator[Row]:
    yield from strings("B2", UNWANTED)


def b3() -> Iterator[Row]:
    yield from broken("B3", "empty topic", {v: publish(v, "", b"x") for v in (V311, V5)}, PROTOCOL, MALFORMED)
    yield from broken("B3", "QoS 1", {v: publish(v, "", b"x", qos=1) for v in (V311, V5)}, PROTOCOL, MALFORMED)
    yield from broken("B3", "alias never set", {V5: publish(V5, "", fields=[b"\x23\x00\x01"])}, PROTOCOL, MALFORMED)
    yield from unwelcome("B3", "will", {v: connect_with_will(v, "") for v in (V311, V5)}, NAME, MALFORMED, PROTOCOL)
    alias = b"\x23\x00\x01"
    named = publish(V5, "t", qos=1, packet_id=5, fields=[alias]) + publish(V5, "", qos=1, packet_id=6, fields=[alias])
    answer = b"\x40\x02\x00\x05\x40\x02\x00\x06"
    yield Row("B3", "alias is fine", V5, "open", named, "answer", answer=answer, received=2)


def b4() -> Iterator[Row]:
    for topic in ("a/+", "#", "a+b", "a/#/b"):
        sent = {v: publish(v, topic) for v in (V311, V5)}
        yield from broken("B4", f"topic {topic}", sent, NAME, MALFORMED, PROTOCOL)
        sent = {v: connect_with_will(v, topic) for v in (V311, V5)}
        yield from unwelcome("B4", f"will {topic}", sent, NAME, MALFORMED)
        sent = {V5: publish(V5, fields=[b"\x08" + text(topic)])}
        yield from broken("B4", f"response topic {topic}", sent, NAME, MALFORMED, PROTOCOL)


def b5() -> Iterator[Row]:
    versions = (V311, V5)
    for count in (65_535, 128):
        deep = "/" * count
        yield from broken("B5", f"topic {count}", {v: publish(v, deep) for v in versions}, NAME)
        will = {v: connect_with_will(v, deep[:60_000]) for v in versions}
        yield from unwelcome("B5", f"will {count}", will, NAME)
        for version, reason in ((V311, 0x80), (V5, FILTER)):
            answer = suback(version, 9, reason)
            sent = subscribe(version, deep, packet_id=9)
            yield Row("B5", f"filter {count}", version, "open", sent, "answer", answer=answer)
    for version in versions:
        sent = publish(version, "/" * 127, qos=1, packet_id=5)
        yield Row("B5", "127 are fine", version, "open", sent, "answer", answer=b"\x40\x02\x00\x05", received=1)


BAD_FILTERS = (
    "", "a/#/b", "a+", "a/b#", "#a", "+a/b", "##", "++", "$share/", "$share", "$share/ab", "$share/g+/t", "$share/#/t",
    "$share//t", "$share/g/", "$share/g/a#",
)  # fmt: skip


def b6() -> Iterator[Row]:
    for wanted in BAD_FILTERS:
        if wanted == "$share":
            continue  # an ordinary topic name
        for version, reason in ((V311, 0x80), (V5, FILTER)):
            granted = suback(version, 9, reason, 1)
            sent = subscribe(version, wanted, "fine", packet_id=9)
            yield Row("B6", f"filter {wanted!r}", version, "open", sent, "answer", answer=granted)
    no_local = subscribe(V5, "$share/g/t", options=0x05)
    yield from broken("B6", "no local on a shared one", {V5: no_local}, PROTOCOL)
    for options in (0x03, 0x40, 0x80, 0x31):
        reasons = (MALFORMED, PROTOCOL) if options in (0x40, 0x80) else (PROTOCOL, MALFORMED)
        wrong = {v: subscribe(v, "t", options=options) for v in (V311, V5)}
        yield from broken("B6", f"options {options:#04x}", wrong, *reasons)


def b7() -> Iterator[Row]:
    for topic in ("$SYS/x", "$share/g/t", "$CONTROL/dynamic-security/v1", "$proxy/errors/row", "$x", "$"):
        for qos, first in ((1, 0x40), (2, 0x50)):
            sent = {v: publish(v, topic, b"x", qos=qos, packet_id=5) for v in (V311, V5)}
            plain = bytes([first]) + b"\x02\x00\x05"
            name = f"{topic} at QoS {qos}"
            yield Row("B7", name, V311, "open", sent[V311], "answer", answer=plain, received=1)
            yield Row("B7", name, V5, "open", sent[V5], "answer", (NOT_AUTHORIZED, NAME), answer=plain, received=1)
        for version in (V311, V5):
            sent_0 = publish(version, topic, b"x")
            yield Row("B7", f"{topic} at QoS 0", version, "open", sent_0, "answer", answer=b"", received=1)


FRAMING = [row for rows in (a1, a2, a3, a4, a5, a6, a7, a8, a10, a11, a12) for row in rows()]
STRINGS = [row for rows in (b1, b2, b3, b4, b5, b6, b7) for row in rows()]


def rows_of(identifier: str) -> list[Row]:
    """Return the rows with this id."""
    found = [row for row in (*FRAMING, *STRINGS) if row.id == identifier]
    assert found
    return found
