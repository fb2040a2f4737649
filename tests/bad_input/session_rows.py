"""Rows C1 to C17: what of sessions, QoS and flow is one packet and its answer. The rest is conversations."""

from collections.abc import Iterator

from tests.bad_input.rows import CLIENT_ID, MALFORMED, METHOD, PROTOCOL, Row, both, broken, nothing, unwelcome
from tests.bad_input.wire import V5, V311, connect, frame, optional, publish, subscribe, text, unsubscribe

VERSION = 0x84
ALIAS = 0x94
METHOD_FIELD = b"\x15" + text("SCRAM-SHA-256")


def c1() -> Iterator[Row]:
    yield from unwelcome("C1", "no name, and a session to keep", {V311: connect(V311, "", flags=0)}, told_311=(2,))
    long = {v: connect(v, "c" * 129) for v in (V311, V5)}
    yield from unwelcome("C1", "too long a name", long, CLIENT_ID, told_311=(2,))


def c2() -> Iterator[Row]:
    for name in (b"MQTX", b"mqtt", b"", b"MQTT\x00"):
        yield from unwelcome("C2", f"protocol name {name.decode()!r}", {V5: connect(V5, name=name)}, VERSION)
        yield from nothing("C2", f"protocol name {name.decode()!r} in 3.1.1", connect(V311, name=name))
    for level in (0, 3, 6, 255):
        head = text("MQTT") + bytes([level]) + b"\x02\x00\x3c" + b"\x00" + text("row")
        if level > V5:
            yield from unwelcome("C2", f"level {level}", {V5: frame(0x10, head)}, VERSION)
        else:
            yield from unwelcome("C2", f"level {level}", {V311: frame(0x10, head)}, told_311=(1,))
    for what, flags in {"reserved flag": 0x03, "will QoS": 0x0A, "will retain": 0x22, "retain and QoS": 0x32}.items():
        yield from unwelcome(
            "C2", f"{what} without a will", {v: connect(v, flags=flags) for v in (V311, V5)}, MALFORMED
        )
    secret = connect(V311, flags=0x42, payload=text("secret"))
    yield from unwelcome("C2", "password without a user name", {V311: secret}, MALFORMED)


def c3() -> Iterator[Row]:
    will = {v: connect(v, flags=0x1E, payload=optional(v) + text("w") + text("x")) for v in (V311, V5)}
    yield from unwelcome("C3", "will QoS 3", will, MALFORMED)
    body = {v: text("t") + b"\x00\x01" + optional(v) + b"x" for v in (V311, V5)}
    for name, first in {"QoS 3": 0x36, "QoS 3 and DUP": 0x3E}.items():
        yield from broken("C3", name, {v: frame(first, body[v]) for v in (V311, V5)}, MALFORMED)
    again = {v: frame(0x38, text("t") + optional(v) + b"x") for v in (V311, V5)}
    yield from broken("C3", "DUP at QoS 0", again, MALFORMED)
    for qos in (1, 2):
        zero = {v: publish(v, "t", b"x", qos=qos, packet_id=0) for v in (V311, V5)}
        yield from broken("C3", f"packet identifier 0 at QoS {qos}", zero, PROTOCOL, MALFORMED)
    zero = {v: subscribe(v, "t", packet_id=0) for v in (V311, V5)}
    yield from broken("C3", "packet identifier 0 of subscribe", zero, PROTOCOL, MALFORMED)
    zero = {v: unsubscribe(v, "t", packet_id=0) for v in (V311, V5)}
    yield from broken("C3", "packet identifier 0 of unsubscribe", zero, PROTOCOL, MALFORMED)
    for name, first in {"puback": 0x40, "pubrec": 0x50, "pubrel": 0x62, "pubcomp": 0x70}.items():
        yield from broken("C3", f"packet identifier 0 of {name}", both(frame(first, b"\x00\x00")), PROTOCOL, MALFORMED)


def c4() -> Iterator[Row]:
    yield from broken("C4", "alias 0", {V5: publish(V5, "t", fields=[b"\x23\x00\x00"])}, ALIAS)
    yield from broken("C4", "alias above the most", {V5: publish(V5, "t", fields=[b"\x23\x00\x21"])}, ALIAS)
    yield from broken("C4", "alias 65535", {V5: publish(V5, "", fields=[b"\x23\xff\xff"])}, ALIAS)
    yield from broken("C4", "alias that says nothing yet", {V5: publish(V5, "", fields=[b"\x23\x00\x05"])}, PROTOCOL)
    highest = publish(V5, "t", fields=[b"\x23\x00\x20"]) + publish(V5, "", fields=[b"\x23\x00\x20"])
    yield Row("C4", "the highest that was offered", V5, "open", highest, "answer", received=2)


def c17() -> Iterator[Row]:
    unknown = {V5: connect(V5, fields=[METHOD_FIELD, b"\x16" + text("n,,n=x,r=y")])}
    yield from unwelcome("C17", "unknown method", unknown, METHOD)
    yield from unwelcome("C17", "empty method", {V5: connect(V5, fields=[b"\x15\x00\x00"])}, METHOD)
    alone = {V5: connect(V5, fields=[b"\x16" + text("data")])}
    yield from unwelcome("C17", "data without a method", alone, PROTOCOL)
    for name, reason in {"go on": 0x18, "again": 0x19, "success": 0x00}.items():
        body = bytes([reason, len(METHOD_FIELD)]) + METHOD_FIELD
        yield from broken("C17", f"auth to {name} without a method in connect", {V5: frame(0xF0, body)}, PROTOCOL)
    yield from broken("C17", "auth with data and no method", {V5: frame(0xF0, b"\x19\x05\x16\x00\x02ab")}, PROTOCOL)
    yield from broken("C17", "auth with a reason that it has not", {V5: frame(0xF0, b"\x87\x00")}, PROTOCOL, MALFORMED)
    yield from broken("C17", "auth in 3.1.1", {V311: frame(0xF0, b"\x19\x00")})
    yield from nothing("C17", "auth before connect", frame(0xF0, b"\x18" + bytes([len(METHOD_FIELD)]) + METHOD_FIELD))
    endless = frame(0xF0, bytes([0x18, len(METHOD_FIELD)]) + METHOD_FIELD) * 100
    yield from unwelcome("C17", "a hundred rounds behind a refused connect", {V5: unknown[V5] + endless}, METHOD)


SESSIONS = [row for rows in (c1, c2, c3, c4, c17) for row in rows()]
