"""Rows A1 to A12: framing."""

from collections.abc import Iterator

from tests.bad_input.rows import (
    MALFORMED,
    METHOD,
    PROTOCOL,
    QUOTA,
    TOO_LARGE,
    Row,
    both,
    broken,
    nothing,
    of,
    unwelcome,
)
from tests.bad_input.wire import (
    V5,
    V311,
    connect,
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


FRAMING = [row for rows in (a1, a2, a3, a4, a5, a6, a7, a8, a10, a11, a12) for row in rows()]
