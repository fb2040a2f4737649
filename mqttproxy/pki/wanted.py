"""What a certificate is to say of its holder: a name, and what it is bound to."""

import re
from ipaddress import ip_address
from typing import Final, Literal

from attrs import frozen

from mqttproxy.pki.errors import PkiError

Kind = Literal["device", "server"]

LONGEST_NAME: Final = 64  # characters of a common name (X.520)
_NOT_IN_NAMES: Final = frozenset("+#/\\,\"'")  # wildcards and separators of topics, of paths, of subjects
_SERIAL: Final = re.compile(r"[A-Za-z0-9.:/-]{1,64}")
_SEPARATORS: Final = re.compile(r"[:.-]")
_MAC: Final = re.compile(r"[0-9a-f]{12}|[0-9a-f]{16}")
_LABEL: Final = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_HOST: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")


@frozen
class Wanted:
    """What is asked for. Made by `wanted`, which checks it.

    Attributes:
        name: common name of the subject; for a device its client identifier or user name.
        kind: a device may only be a client of TLS, a server only a server.
        hosts: DNS names and IP addresses of a server.
        device_serial: `serialNumber` of the subject: what the maker has written on the device.
        mac: MAC address as 12 or 16 hexadecimal digits, in the certificate as a URN (RFC 9039).

    """

    name: str
    kind: Kind
    hosts: tuple[str, ...] = ()
    device_serial: str | None = None
    mac: str | None = None

    @property
    def mac_urn(self) -> str | None:
        """Return the MAC address as RFC 9039 writes it: one of 48 bits is filled up to 64."""
        if self.mac is None:
            return None
        digits = self.mac if len(self.mac) == 16 else f"{self.mac[:6]}fffe{self.mac[6:]}"
        return f"urn:dev:mac:{digits}"


def wanted(
    name: str,
    kind: Kind = "device",
    *,
    hosts: tuple[str, ...] = (),
    device_serial: str | None = None,
    mac: str | None = None,
) -> Wanted:
    """Check what is asked for.

    Args:
        name: see `Wanted`; a server without hosts is reached by its name.
        kind: see `Wanted`.
        hosts: of a server only.
        device_serial: of a device only.
        mac: of a device only, in any of the usual forms, such as 00:1B:44:11:3A:B7.

    Raises:
        PkiError: it cannot be in a certificate.

    """
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip() or name.startswith("."):
        raise PkiError(f"{name[:80]!r} is no name: 1 to {LONGEST_NAME} characters that can be shown")
    if bad := sorted(_NOT_IN_NAMES & set(name)):
        raise PkiError(f"{name!r} is no name: it may not hold {' '.join(bad)}")
    if kind == "server":
        if device_serial is not None or mac is not None:
            raise PkiError("a server is bound to host names, not to a serial number or MAC address")
        return Wanted(name, kind, tuple(map(_host, hosts or (name,))))
    if hosts:
        raise PkiError("host names are for servers")
    if device_serial is not None and not _SERIAL.fullmatch(device_serial):
        raise PkiError(f"{device_serial[:80]!r} is no serial number: 1 to 64 of A-Z a-z 0-9 . : / -")
    digits = None if mac is None else _SEPARATORS.sub("", mac).lower()
    if digits is not None and not _MAC.fullmatch(digits):
        raise PkiError(f"{str(mac)[:80]!r} is no MAC address, such as 00:1B:44:11:3A:B7")
    return Wanted(name, kind, (), device_serial, digits)


def is_address(host: str) -> bool:
    """Tell whether a host is an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _host(host: str) -> str:
    if is_address(host):
        return str(ip_address(host))
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise PkiError(f"{host[:80]!r} is neither a DNS name nor an IP address")
    return host.lower()
