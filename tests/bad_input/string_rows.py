"""Rows B1 to B7: strings and topics. B8 and B9 are conversations of their own."""

from collections.abc import Iterator

from tests.bad_input.rows import CLIENT_ID, FILTER, MALFORMED, NAME, NOT_AUTHORIZED, PROTOCOL, Row, broken, unwelcome
from tests.bad_input.wire import (
    V5,
    V311,
    connect,
    connect_with_will,
    frame,
    properties,
    publish,
    suback,
    subscribe,
    text,
    unsubscribe,
)

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
    for name, value in bad.items():
        yield from _string_anywhere(identifier, name, value)
        yield from _string_of_5(identifier, name, value)


def _string_anywhere(identifier: str, name: str, value: bytes) -> Iterator[Row]:
    versions = (V311, V5)
    yield from broken(identifier, f"topic {name}", {v: publish(v, value) for v in versions}, MALFORMED)
    yield from unwelcome(
        identifier,
        f"client identifier {name}",
        {v: connect(v, value) for v in versions},
        CLIENT_ID,
        MALFORMED,
        told_311=(2,),
    )
    yield from broken(identifier, f"filter {name}", {v: subscribe(v, value) for v in versions}, MALFORMED)
    yield from broken(identifier, f"filter to leave {name}", {v: unsubscribe(v, value) for v in versions}, MALFORMED)
    yield from unwelcome(
        identifier, f"will topic {name}", {v: connect_with_will(v, value) for v in versions}, MALFORMED
    )
    user = {v: connect(v, flags=0x82, payload=text(value)) for v in versions}
    yield from unwelcome(identifier, f"user name {name}", user, MALFORMED)


def _string_of_5(identifier: str, name: str, value: bytes) -> Iterator[Row]:
    bad = text(value)
    for what, field in {
        "content type": b"\x03" + bad,
        "response topic": b"\x08" + bad,
        "user property": b"\x26" + text("k") + bad,
        "name of a user property": b"\x26" + bad + text("v"),
    }.items():
        yield from broken(identifier, f"{what} {name}", {V5: publish(V5, fields=[field])}, MALFORMED)
    for what, body in {"puback": b"\x40\x00\x05\x00", "disconnect": b"\xe0\x00"}.items():
        told = {V5: frame(body[0], body[1:] + properties(b"\x1f" + bad))}
        yield from broken(identifier, f"reason string of {what} {name}", told, MALFORMED)
    method = {V5: connect(V5, fields=[b"\x15" + bad])}
    yield from unwelcome(identifier, f"authentication method {name}", method, MALFORMED)


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


TEXTS = [*b1(), *b2()]  # every bad text in every field that holds one
STRINGS = [row for rows in (b3, b4, b5, b6, b7) for row in rows()]
