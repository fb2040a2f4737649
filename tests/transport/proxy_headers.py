"""PROXY headers as load balancers write them, and strategies for them."""

from ipaddress import ip_address

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.transport.proxy_header import SIGNATURE, crc32c

CRC32C, TLS, TLS_VERSION, TLS_CN, TLS_CERTIFICATE = 0x03, 0x20, 0x21, 0x22, 0x28


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2) + value


def tls_tlv(*inside: bytes, flags: int = 0x07, fault: int = 0) -> bytes:
    return tlv(TLS, bytes([flags]) + fault.to_bytes(4) + b"".join(inside))


def v2(body: bytes, *, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2) + body


def v2_from(source: str, port: int, *tlvs: bytes, checksum: bool = False) -> bytes:
    """Return what says that the client is `source`, with a checksum if wanted."""
    address = ip_address(source).packed
    body = address + address + port.to_bytes(2) + (1883).to_bytes(2) + b"".join(tlvs)
    family = 0x11 if len(address) == 4 else 0x21
    if not checksum:
        return v2(body, family=family)
    unsigned = v2(body + tlv(CRC32C, bytes(4)), family=family)
    return unsigned[:-4] + crc32c(unsigned).to_bytes(4)


def v1(source: str, port: int) -> bytes:
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {source} {port} 1883\r\n".encode()


addresses = st.ip_addresses().map(str)
ports = st.integers(0, 65_535)
tlvs: SearchStrategy[bytes] = st.one_of(
    st.builds(tlv, st.integers(0, 255), st.binary(max_size=40)),
    st.builds(
        lambda inside, flags, fault: tls_tlv(*inside, flags=flags, fault=fault),
        st.lists(st.builds(tlv, st.integers(0x1F, 0x29), st.binary(max_size=20)), max_size=4),
        st.integers(0, 15),
        st.integers(0, 2),
    ),
)
headers: SearchStrategy[bytes] = st.one_of(
    st.builds(v1, addresses, ports),
    st.builds(
        lambda source, port, some, checksum: v2_from(source, port, *some, checksum=checksum),
        addresses,
        ports,
        st.lists(tlvs, max_size=4),
        st.booleans(),
    ),
    st.builds(
        lambda body, command, family: v2(body, command=command, family=family),
        st.binary(max_size=60),
        st.sampled_from([0x20, 0x21, 0x22]),
        st.sampled_from([0, 0x11, 0x12, 0x21, 0x31]),
    ),
)
