"""The PROXY protocol, versions 1 and 2: what a load balancer says of a connection that it passes on. Computes only.

`header_size` tells how many bytes a header has, so that nothing behind it is read with it; `parse_header` reads it.
Whoever may send one is believed in all of it, so it is strict: a header that says a thing twice, runs over its own end,
or does not add up to its checksum is no header.
https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from attrs import frozen

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"  # of version 2
LONGEST_V1: Final = 107  # bytes, with CRLF
_V1: Final = b"PROXY "
_FIXED: Final = struct.Struct("!12sBBH")  # version 2: signature, version and command, family, length of the rest
_TLV: Final = struct.Struct("!BH")
_SSL: Final = struct.Struct("!BI")

_LOCAL, _PROXY = 0x20, 0x21
_ADDRESSES: Final = {  # family and protocol: bytes of the address block, and of one IP address in it
    0x00: (0, 0),  # unspecified
    0x11: (12, 4),  # TCP over IPv4
    0x21: (36, 16),  # TCP over IPv6
    0x31: (216, 0),  # a UNIX socket
}

_ALPN, _AUTHORITY, _CRC32C, _UNIQUE_ID, _TLS = 0x01, 0x02, 0x03, 0x05, 0x20
_TLS_VERSION, _TLS_CN, _TLS_CERTIFICATE = 0x21, 0x22, 0x28
_IS_TLS, _SHOWED_CERTIFICATE = 0x01, 0x06  # bits: over this connection, or over this TLS session
_LONGEST_UNIQUE_ID: Final = 128

_POLYNOMIAL: Final = 0x82F6_3B78  # Castagnoli's, reflected


class ProxyHeaderError(ValueError):
    """These bytes are no PROXY header. In words, with the peer's bytes escaped and cut short."""


@frozen
class ClientTls:
    """How the client speaks TLS with the load balancer.

    Attributes:
        version: such as "TLSv1.3"; empty: not said.
        common_name: of the client's certificate, which the load balancer has verified; None: none, or not said.
        certificate: the same certificate, in DER; empty: none, or not said.
        is_verified: there is such a certificate.

    """

    version: str = ""
    common_name: str | None = None
    certificate: bytes = b""
    is_verified: bool = False


@frozen
class ProxyHeader:
    """What a header says.

    Attributes:
        source: address and port of the client; None: the connection is the load balancer's own, or it does not know.
        tls: None: the client speaks no TLS with the load balancer, or that is not said.
        alpn: what the client wants to speak, by TLS; empty: not said.
        authority: the host name that the client wanted (SNI); empty: not said.
        unique_id: by which the load balancer knows the connection; empty: not said.

    """

    source: tuple[str, int] | None = None
    tls: ClientTls | None = None
    alpn: bytes = b""
    authority: str = ""
    unique_id: bytes = b""


def header_size(head: bytes, longest: int) -> int | None:
    """Return how many bytes the header that begins so has; None: that cannot be told yet.

    Args:
        head: the first bytes of a connection.
        longest: bytes that a header of version 2 may have.

    Raises:
        ProxyHeaderError: no header begins so, or it is longer than may be.

    """
    if head.startswith(SIGNATURE):
        if len(head) < _FIXED.size:
            return None
        size = _FIXED.size + int(_FIXED.unpack_from(head)[3])
        if size > longest:
            raise ProxyHeaderError(f"a header of {size} bytes, where {longest} may be")
        return size
    if head.startswith(_V1):
        end = head.find(b"\r\n", 0, LONGEST_V1)
        if end < 0 and len(head) >= LONGEST_V1:
            raise ProxyHeaderError(f"a header of version 1 whose line does not end after {LONGEST_V1} bytes")
        return None if end < 0 else end + 2
    if SIGNATURE.startswith(head) or _V1.startswith(head):
        return None
    raise ProxyHeaderError(f"no header: {head[:16]!r}")


def parse_header(head: bytes) -> ProxyHeader:
    """Return what a whole header says.

    Raises:
        ProxyHeaderError: it is none.

    """
    return _parse_v2(head) if head.startswith(SIGNATURE) else _parse_v1(head)


def _parse_v1(head: bytes) -> ProxyHeader:
    try:
        line = head[:-2].decode("ascii")
    except UnicodeDecodeError:
        raise _bad_line(head) from None
    if not head.endswith(b"\r\n") or not line.startswith(_V1.decode()):
        raise _bad_line(head)
    if line == "PROXY UNKNOWN" or line.startswith("PROXY UNKNOWN "):
        return ProxyHeader()
    match line.split(" "):
        case [_, "TCP4" | "TCP6" as family, source, destination, source_port, destination_port]:
            kind = IPv4Address if family == "TCP4" else IPv6Address
            addresses = [_address(text) for text in (source, destination)]
            ports = [_port(text) for text in (source_port, destination_port)]
            if all(isinstance(one, kind) for one in addresses) and None not in ports:
                return ProxyHeader(_endpoint(addresses[0], ports[0]))
    raise _bad_line(head)


def _bad_line(head: bytes) -> ProxyHeaderError:
    return ProxyHeaderError(f"a line of version 1 that says nothing: {head[:LONGEST_V1]!r}")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def _port(text: str) -> int | None:
    if not text.isdecimal() or len(text) > 5 or (text[0] == "0" and text != "0"):
        return None
    return int(text) if int(text) <= 0xFFFF else None


def _endpoint(address: IPv4Address | IPv6Address | None, port: int | None) -> tuple[str, int] | None:
    if address is None or port is None:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address), port


def _parse_v2(head: bytes) -> ProxyHeader:
    if len(head) < _FIXED.size:
        raise ProxyHeaderError("a header that is cut off")
    _, command, family, size = _FIXED.unpack_from(head)
    if len(head) != _FIXED.size + size:
        raise ProxyHeaderError(f"a header of {len(head)} bytes that says {_FIXED.size + size}")
    if command == _LOCAL:
        return ProxyHeader()  # a look whether we live; whatever it says else is to be ignored
    if command != _PROXY:
        raise ProxyHeaderError(f"version and command 0x{command:02X}")
    if family not in _ADDRESSES:
        raise ProxyHeaderError(f"family and protocol 0x{family:02X}")
    block, width = _ADDRESSES[family]
    if size < block:
        raise ProxyHeaderError(f"{size} bytes, where the addresses alone take {block}")
    source = None
    if width:
        address = ip_address(head[_FIXED.size : _FIXED.size + width])
        source = _endpoint(address, int.from_bytes(head[_FIXED.size + 2 * width :][:2]))
    return _with_tlvs(head, _FIXED.size + block, source)


def _with_tlvs(head: bytes, start: int, source: tuple[str, int] | None) -> ProxyHeader:
    found = _unique(head, start)
    if (checksum := found.get(_CRC32C)) is not None:
        _check(head, checksum)
    unique_id = _value(head, found, _UNIQUE_ID)
    if len(unique_id) > _LONGEST_UNIQUE_ID:
        raise ProxyHeaderError(f"a unique id of {len(unique_id)} bytes")
    return ProxyHeader(
        source,
        _client_tls(_value(head, found, _TLS)) if _TLS in found else None,
        _value(head, found, _ALPN),
        _text(_value(head, found, _AUTHORITY), "authority"),
        unique_id,
    )


def _tlvs(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of each."""
    while start < len(data):
        if len(data) - start < _TLV.size:
            raise ProxyHeaderError("a TLV that is cut off")
        kind, size = _TLV.unpack_from(data, start)
        start += _TLV.size
        if size > len(data) - start:
            raise ProxyHeaderError(f"TLV 0x{kind:02X} of {size} bytes, where {len(data) - start} are left")
        yield kind, start, start + size
        start += size


def _unique(data: bytes, start: int) -> dict[int, tuple[int, int]]:
    """Return where each type that is looked at stands: none of them may be there twice, for which would hold?"""
    found: dict[int, tuple[int, int]] = {}
    for kind, begin, end in _tlvs(data, start):
        if kind in found and kind in _LOOKED_AT:
            raise ProxyHeaderError(f"TLV 0x{kind:02X} is there twice")
        found[kind] = begin, end
    return found


_LOOKED_AT: Final = frozenset({_ALPN, _AUTHORITY, _CRC32C, _UNIQUE_ID, _TLS, _TLS_VERSION, _TLS_CN, _TLS_CERTIFICATE})


def _value(data: bytes, found: dict[int, tuple[int, int]], kind: int) -> bytes:
    begin, end = found.get(kind, (0, 0))
    return data[begin:end]


def _client_tls(data: bytes) -> ClientTls | None:
    if len(data) < _SSL.size:
        raise ProxyHeaderError("a TLS TLV that is cut off")
    flags, fault = _SSL.unpack_from(data)
    found = _unique(data, _SSL.size)
    if not flags & _IS_TLS:
        return None
    version = _text(_value(data, found, _TLS_VERSION), "TLS version")
    common_name = _text(_value(data, found, _TLS_CN), "common name")
    if fault or not flags & _SHOWED_CERTIFICATE:
        return ClientTls(version)  # nothing is known of the client that was verified
    return ClientTls(version, common_name or None, _value(data, found, _TLS_CERTIFICATE), is_verified=True)


def _text(data: bytes, what: str) -> str:
    """Return a text that can be shown and compared: a name with a line break or NUL is none."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable():
        raise ProxyHeaderError(f"{what} {data[:60]!r}")
    return text


def _check(head: bytes, place: tuple[int, int]) -> None:
    begin, end = place
    if end - begin != 4:
        raise ProxyHeaderError(f"a checksum of {end - begin} bytes")
    said = int.from_bytes(head[begin:end])
    if crc32c(head[:begin] + bytes(4) + head[end:]) != said:
        raise ProxyHeaderError("a checksum that is wrong")


def _table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """Return the checksum of RFC 3720, which the standard library does not have (its CRC-32 has another polynomial)."""
    value = 0xFFFF_FFFF
    for byte in data:
        value = value >> 8 ^ _CRC_TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFF_FFFF
