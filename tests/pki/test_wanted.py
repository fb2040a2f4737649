"""mqttproxy/pki/wanted.py: what a certificate may say."""

import pytest
from hypothesis import given, strategies as st

from mqttproxy.pki.errors import PkiError
from mqttproxy.pki.wanted import Wanted, wanted


def test_a_mac_address_may_be_written_in_any_of_the_usual_forms() -> None:
    for text in ("00:1B:44:11:3A:B7", "00-1b-44-11-3a-b7", "001b.4411.3ab7", "001B44113AB7"):
        assert wanted("d", mac=text).mac == "001b44113ab7"
    assert wanted("d", mac="00:1B:44:11:3A:B7").mac_urn == "urn:dev:mac:001b44fffe113ab7"
    assert wanted("d", mac="0024befffe804ff1").mac_urn == "urn:dev:mac:0024befffe804ff1"


def test_a_server_is_reached_by_its_name_unless_told_otherwise() -> None:
    assert wanted("Broker.Example", "server").hosts == ("broker.example",)
    assert wanted("b", "server", hosts=("*.example", "::0:1", "10.0.0.1")).hosts == ("*.example", "::1", "10.0.0.1")


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("", {}, "is no name"),
        ("x" * 65, {}, "is no name"),
        (" d", {}, "is no name"),
        (".d", {}, "is no name"),
        ("a\0b", {}, "is no name"),
        ("a\r\nb", {}, "is no name"),
        ("a/b", {}, "it may not hold /"),
        ("a+#", {}, "it may not hold # [+]"),
        ("a,O=b", {}, "it may not hold ,"),
        ("d", {"mac": "00:1B:44:11:3A"}, "no MAC address"),
        ("d", {"mac": "00:1B:44:11:3A:BG"}, "no MAC address"),
        ("d", {"device_serial": "a b"}, "no serial number"),
        ("d", {"device_serial": ""}, "no serial number"),
        ("d", {"hosts": ("a",)}, "host names are for servers"),
        ("s", {"kind": "server", "mac": "001b44113ab7"}, "not to a serial number"),
        ("s", {"kind": "server", "hosts": ("-a",)}, "neither a DNS name nor an IP address"),
        ("s", {"kind": "server", "hosts": ("a b",)}, "neither a DNS name nor an IP address"),
        ("s", {"kind": "server", "hosts": (".".join(["a" * 60] * 5),)}, "neither a DNS name nor an IP address"),
    ],
)
def test_D11_what_cannot_be_in_a_certificate_is_refused(name: str, more: dict[str, object], words: str) -> None:
    with pytest.raises(PkiError, match=words):
        wanted(name, **more)  # type: ignore[arg-type] # keywords of several types


@given(st.text(), st.none() | st.text(max_size=20), st.none() | st.text(max_size=20))
def test_whatever_is_asked_for_is_checked_or_refused_in_words(name: str, serial: str | None, mac: str | None) -> None:
    try:
        found = wanted(name, device_serial=serial, mac=mac)
    except PkiError as error:
        words = str(error)
    else:
        words = found.name
        assert found == Wanted(name, "device", (), serial, found.mac)
    assert words.isprintable()
