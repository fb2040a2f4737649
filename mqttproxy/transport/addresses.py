"""What stands for an address where addresses are counted."""

from ipaddress import IPv6Address, ip_address
from typing import Final

IPV6_PREFIX: Final = 64  # bits: whoever has one address has all of those


def counted_as(address: str) -> str:
    """Return an address itself, or its network where that is one customer's: of IPv6 the /64, without a zone."""
    if ":" not in address:
        return address
    try:
        number = int(ip_address(address))
    except ValueError:  # no address, as in memory
        return address
    return str(IPv6Address(number >> IPV6_PREFIX << IPV6_PREFIX))
