r"""Target `proxy_headers`: any bytes are a PROXY header, or are refused in words, whatever their cut.

`header_size` and `parse_header` raise nothing but ProxyHeaderError. The size does not change with the bytes behind it,
and never grows beyond the bound; what a header says can be shown in a log as it stands.

Input: the first bytes of a connection.
"""

from ipaddress import ip_address

from mqttproxy.transport.proxy_header import LONGEST_V1, ProxyHeaderError, header_size, parse_header
from tests.transport.proxy_headers import headers as strategy

__all__ = ["check", "strategy"]

LONGEST = 512


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: the size, or the words; and what is told."""
    try:
        size = header_size(data, LONGEST)
    except ProxyHeaderError as error:
        return _kind(error)
    if size is None:
        assert len(data) < LONGEST_V1
        return "more"
    assert size <= LONGEST
    assert header_size(data + b"\r\n", LONGEST) == size
    if len(data) < size:
        return "cut"
    try:
        header = parse_header(data[:size])
    except ProxyHeaderError as error:
        return _kind(error)
    if header.source is not None:
        assert str(ip_address(header.source[0])) == header.source[0]
        assert 0 <= header.source[1] <= 65_535
    assert header.authority.isprintable()
    assert header.tls is None or (header.tls.version + (header.tls.common_name or "")).isprintable()
    return (
        header.source is None,
        header.tls is not None
        and (bool(header.tls.version), header.tls.common_name is None, header.tls.certificate == b""),
        bool(header.alpn),
        bool(header.authority),
        bool(header.unique_id),
    )


def _kind(error: ProxyHeaderError) -> str:
    assert str(error).isprintable()
    words = str(error).partition(":")[0].partition(" b")[0]  # without the bytes that it shows
    return "".join(character for character in words if not character.isdigit())[:24]
