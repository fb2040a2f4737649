"""mqttproxy/transport/proxy_header.py: exact headers, and laws over all of them."""

import pytest
from hypothesis import given, strategies as st

from mqttproxy.transport.proxy_header import (
    ClientTls,
    ProxyHeader,
    ProxyHeaderError,
    crc32c,
    header_size,
    parse_header,
)
from tests.transport.proxy_headers import (
    CRC32C,
    TLS_CERTIFICATE,
    TLS_CN,
    TLS_VERSION,
    addresses,
    headers,
    ports,
    tls_tlv,
    tlv,
    v1,
    v2,
    v2_from,
)

pytestmark = pytest.mark.wire("tcp")

LONGEST = 8192
FOUR = bytes([192, 0, 2, 7, 192, 0, 2, 8, 0xC0, 0x00, 0x07, 0x5B])


def test_version_1_tells_the_source() -> None:
    assert parse_header(b"PROXY TCP4 192.0.2.7 192.0.2.8 49152 1883\r\n") == ProxyHeader(("192.0.2.7", 49152))
    assert parse_header(b"PROXY TCP6 2001:db8::7 2001:db8::8 1 1883\r\n") == ProxyHeader(("2001:db8::7", 1))


@pytest.mark.parametrize("line", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"])
def test_version_1_may_not_know_the_source(line: bytes) -> None:
    assert parse_header(line) == ProxyHeader()


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.7 192.0.2.8 49152\r\n",
        b"PROXY TCP4 192.0.2.7  192.0.2.8 49152 1883\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.8 49152 1883 \r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.8 65536 1883\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.8 01 1883\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.8 -1 1883\r\n",
        b"PROXY TCP4 192.0.2.07 192.0.2.8 1 1883\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::8 1 1883\r\n",
        b"PROXY TCP6 192.0.2.7 192.0.2.8 1 1883\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2%eth0 1 1883\r\n",
        b"PROXY UDP4 192.0.2.7 192.0.2.8 1 1883\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY \xd9\xa1\r\n",
        b"proxy TCP4 192.0.2.7 192.0.2.8 1 1883\r\n",
    ],
)
def test_D12_a_line_of_version_1_that_is_not_exact_is_refused(line: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        parse_header(line)


def test_D12_a_line_of_version_1_has_at_most_107_bytes() -> None:
    longest = b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"
    assert header_size(longest, LONGEST) == len(longest) == 107
    with pytest.raises(ProxyHeaderError, match="does not end after 107 bytes"):
        header_size(b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", LONGEST)


def test_version_2_tells_the_source() -> None:
    assert parse_header(v2(FOUR)) == ProxyHeader(("192.0.2.7", 0xC000))
    assert parse_header(v2_from("2001:db8::7", 5)) == ProxyHeader(("2001:db8::7", 5))
    assert parse_header(v2_from("::ffff:192.0.2.7", 5)) == ProxyHeader(("192.0.2.7", 5))


@pytest.mark.parametrize(
    "head",
    [
        v2(b"", family=0),
        v2(bytes(216), family=0x31),
        v2(FOUR, command=0x20),
        v2(b"\xff" * 9, command=0x20, family=0xFF),
    ],
)
def test_D12_the_balancer_speaks_for_itself_or_does_not_know(head: bytes) -> None:
    assert parse_header(head) == ProxyHeader()


def test_what_is_known_of_the_client_stands_in_tlvs() -> None:
    head = v2_from(
        "192.0.2.7",
        1,
        tlv(0x01, b"mqtt"),
        tlv(0x02, b"iot.example"),
        tlv(0x05, b"\0\1"),
        tls_tlv(tlv(TLS_VERSION, b"TLSv1.3"), tlv(TLS_CN, b"device-7"), tlv(TLS_CERTIFICATE, b"DER")),
        tlv(0x04, bytes(30)),
        tlv(0xEA, b"\x01vpce-1"),
        tlv(0xEA, b"another"),
        checksum=True,
    )
    tls = ClientTls("TLSv1.3", "device-7", b"DER", is_verified=True)
    assert parse_header(head) == ProxyHeader(("192.0.2.7", 1), tls, b"mqtt", "iot.example", b"\0\1")


@pytest.mark.parametrize(
    ("flags", "fault", "tls"),
    [
        (0x03, 0, ClientTls("", "device-7", b"DER", is_verified=True)),
        (0x05, 0, ClientTls("", "device-7", b"DER", is_verified=True)),
        (0x07, 1, ClientTls()),  # shown, and not verified
        (0x01, 0, ClientTls()),  # none was shown
        (0x06, 0, None),  # no TLS
    ],
)
def test_D11_a_certificate_counts_only_if_it_was_shown_and_verified(
    flags: int, fault: int, tls: ClientTls | None
) -> None:
    inside = tls_tlv(tlv(TLS_CN, b"device-7"), tlv(TLS_CERTIFICATE, b"DER"), flags=flags, fault=fault)
    assert parse_header(v2_from("192.0.2.7", 1, inside)).tls == tls


@pytest.mark.parametrize("name", [b"device\r\n7", b"device\0", b"\xff", b"\x1b[2J", "a\u202eb".encode()])
def test_D11_D12_a_common_name_that_cannot_be_shown_is_refused(name: bytes) -> None:
    with pytest.raises(ProxyHeaderError, match="common name"):
        parse_header(v2_from("192.0.2.7", 1, tls_tlv(tlv(TLS_CN, name))))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (v2(FOUR, command=0x22), "version and command 0x22"),
        (v2(FOUR, command=0x11), "version and command 0x11"),
        (v2(FOUR, family=0x12), "family and protocol 0x12"),
        (v2(FOUR[:-1]), "11 bytes, where the addresses alone take 12"),
        (v2(FOUR)[:-1], "a header of 27 bytes that says 28"),
        (v2(FOUR + b"\x04\0"), "a TLV that is cut off"),
        (v2(FOUR + b"\x01\0\x05mqtt"), "TLV 0x01 of 5 bytes, where 4 are left"),
        (v2(FOUR + tlv(0x20, b"\x01\0\0")), "a TLS TLV that is cut off"),
        (v2(FOUR + tls_tlv(b"\x22\xff\xffx")), "TLV 0x22 of 65535 bytes, where 1 are left"),
        (v2(FOUR + tls_tlv(tlv(TLS_CN, b"a"), tlv(TLS_CN, b"b"))), "TLV 0x22 is there twice"),
        (v2(FOUR + tls_tlv() * 2), "TLV 0x20 is there twice"),
        (v2(FOUR + tlv(0x02, b"a\nb")), "authority"),
        (v2(FOUR + tlv(0x05, bytes(129))), "a unique id of 129 bytes"),
        (v2(FOUR + tlv(CRC32C, b"\0\0\0")), "a checksum of 3 bytes"),
        (v2(FOUR + tlv(CRC32C, b"\1\2\3\4")), "a checksum that is wrong"),
    ],
)
def test_D12_what_does_not_add_up_is_refused(head: bytes, words: str) -> None:
    with pytest.raises(ProxyHeaderError, match=words):
        parse_header(head)


def test_the_checksum_is_that_of_rfc_3720() -> None:
    assert crc32c(b"123456789") == 0xE306_9283
    assert crc32c(bytes(32)) == 0x8A91_36AA


def test_D12_a_header_is_refused_from_its_declared_length() -> None:
    head = v2(bytes(9000))[:16]
    with pytest.raises(ProxyHeaderError, match="a header of 9016 bytes, where 8192 may be"):
        header_size(head, LONGEST)


@pytest.mark.parametrize("data", [b"\x10\x0c\0\4MQTT", b"\x16\3\1", b"GET / HTTP/1.1", b"\r\n\r\n\0\r\nQUIT\r"])
def test_D12_what_begins_otherwise_is_no_header(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError, match="no header"):
        header_size(data, LONGEST)


@given(addresses, ports, st.booleans())
def test_both_versions_say_the_same(address: str, port: int, checksum: bool) -> None:
    first, second = parse_header(v1(address, port)), parse_header(v2_from(address, port, checksum=checksum))
    assert first == second
    assert first.source is not None
    assert first.source[1] == port


@given(headers, st.binary(max_size=20))
def test_the_size_is_known_from_the_first_bytes_that_tell_it_and_never_changes(head: bytes, behind: bytes) -> None:
    sizes = [header_size(head[:end], LONGEST) for end in range(len(head))]
    known = [size for size in sizes if size is not None]
    assert set(known) <= {len(head)}
    assert header_size(head + behind, LONGEST) == len(head)


@given(st.one_of(st.binary(), headers, st.builds(lambda head, cut: head[:cut], headers, st.integers(0, 80))))
def test_any_bytes_are_a_header_or_are_refused(data: bytes) -> None:
    try:
        header = parse_header(data)
    except ProxyHeaderError as error:
        words = str(error)
    else:
        words = ""
        assert header.tls is None or header.tls.common_name is None or header.tls.common_name.isprintable()
    assert words.isprintable()


@given(st.integers(16, 27), st.integers(1, 255))
def test_addresses_that_a_checksum_covers_cannot_change(place: int, bits: int) -> None:
    changed = bytearray(v2_from("192.0.2.7", 1, tls_tlv(tlv(TLS_CN, b"device-7")), checksum=True))
    changed[place] ^= bits
    with pytest.raises(ProxyHeaderError):
        parse_header(bytes(changed))
