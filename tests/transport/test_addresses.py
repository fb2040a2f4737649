"""What stands for an address where addresses are counted."""

import pytest

from mqttproxy.transport.addresses import counted_as


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("a:b", "a:b"),
    ],
)
def test_of_ipv6_it_is_the_network_of_one_customer(address: str, expected: str) -> None:
    assert counted_as(address) == expected
