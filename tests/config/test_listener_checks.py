"""Cross-checks of listeners and of addresses, with the exact sentences."""

import pytest

from tests.config.documents import faults, parse


def listener(name: str = "a", bind: str = "127.0.0.1:1883", **values: str) -> str:
    settings = {"name": f'"{name}"', "bind": f'"{bind}"'} | values
    return "\n".join(["[[listeners]]", *(f"{key} = {value}" for key, value in settings.items()), ""])


TLS = {"transport": '"tls"', "certificate": '"c.pem"', "private_key": '"k.pem"'}
PLAIN = "expected none, because the transport is neither tls nor wss"

BAD = [
    (
        listener(transport='"tls"', private_key='"k.pem"'),
        ["listeners[0].certificate: found nothing, expected a file in PEM, because the transport is tls"],
    ),
    (
        listener(transport='"wss"'),
        [
            "listeners[0].certificate: found nothing, expected a file in PEM, because the transport is wss",
            "listeners[0].private_key: found nothing, expected a file in PEM, because the transport is wss",
        ],
    ),
    (
        listener(certificate='"c.pem"', client_certificate='"required"'),
        [
            f'listeners[0].certificate: found "/etc/mqttproxy/c.pem", {PLAIN}',
            f'listeners[0].client_certificate: found "required", {PLAIN}',
        ],
    ),
    (
        listener(**TLS, client_certificate='"optional"'),
        ['listeners[0].client_ca: found nothing, expected a file in PEM, because client_certificate is "optional"'],
    ),
    (
        listener(**TLS, client_ca='"ca.pem"'),
        [
            (
                'listeners[0].client_certificate: found "none", expected "optional" or "required", '
                "because client_ca is given"
            )
        ],
    ),
    (
        listener(transport='"tls"', certificate='"gone.pem"', private_key='"k.pem"'),
        ['listeners[0].certificate: found "/etc/mqttproxy/gone.pem", no such file, expected a readable file'],
    ),
    (
        listener(transport='"ws"', path='"mqtt"'),
        ['listeners[0].path: found "mqtt", expected a path such as "/mqtt"'],
    ),
    (
        listener(transport='"ws"', origins='["https://dash.example:8443", "http://[::1]", "https://dash.example/"]'),
        [
            (
                'listeners[0].origins[2]: found "https://dash.example/", expected an origin such as '
                '"https://dashboard.example"'
            )
        ],
    ),
    (
        listener(origins="[]"),
        ["listeners[0].origins: found a list, expected none, because the transport is neither ws nor wss"],
    ),
    (
        listener(crl='"crl.pem"'),
        [
            (
                'listeners[0].crl: found "/etc/mqttproxy/crl.pem", expected none, because nobody shows a certificate: '
                "the transport is neither tls nor wss; with proxy_protocol.from, certificates that load balancers pass "
                "on are looked up in it"
            )
        ],
    ),
    (
        listener(crl='"gone.pem"', proxy_protocol='{ from = ["10.0.0.0/8"] }'),
        ['listeners[0].crl: found "/etc/mqttproxy/gone.pem", no such file, expected a readable file'],
    ),
    (
        listener(**TLS, crl='"crl.pem"'),
        [('listeners[0].client_certificate: found "none", expected "optional" or "required", because crl is given')],
    ),
    (
        listener(proxy_protocol='{ from = ["10.0.0.1/8"] }'),
        [
            (
                'listeners[0].proxy_protocol.from[0]: found "10.0.0.1/8", expected an IP address or a network such as '
                '"10.0.0.0/8"'
            )
        ],
    ),
    (
        listener(proxy_protocol='{ header_timeout = "1s" }'),
        ["listeners[0].proxy_protocol.header_timeout: found 1.0, expected none, because from is empty"],
    ),
    (
        listener(proxy_protocol='{ from = ["10.0.0.0/8"], header_bytes = "1MiB" }'),
        ["listeners[0].proxy_protocol.header_bytes: found 1MiB, expected 256B to 65551B"],
    ),
    (
        listener("a") + listener("a", "127.0.0.1:1884"),
        ['listeners[1].name: found "a", expected a name of its own; listeners[0] has it'],
    ),
    (
        listener("a") + listener("b"),
        [
            (
                'listeners[1].bind: found "127.0.0.1:1883", expected an address of its own; '
                'listeners[0].bind has "127.0.0.1:1883"'
            )
        ],
    ),
    (
        listener("a", "0.0.0.0:9100"),
        [
            (
                'telemetry.metrics_bind: found "127.0.0.1:9100", expected an address of its own; '
                'listeners[0].bind has "0.0.0.0:9100"'
            )
        ],
    ),
]


@pytest.mark.parametrize(("text", "sentences"), BAD)
def test_listeners_that_do_not_fit_are_told_in_exact_sentences(text: str, sentences: list[str]) -> None:
    assert faults(text, missing="gone.pem") == sentences


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.0.0.0:1883", "10.0.0.1:1883"),
        ("10.0.0.1:1883", "0.0.0.0:1883"),
        ("[::]:1883", "[::1]:1883"),
        ("localhost:1883", "127.0.0.1:1883"),
    ],
)
def test_addresses_that_hold_one_another_clash(one: str, other: str) -> None:
    assert len(faults(listener("a", one) + listener("b", other))) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:1883", "127.0.0.2:1883"),
        ("127.0.0.1:1883", "127.0.0.1:1884"),
        ("0.0.0.0:1883", "[::]:1883"),
        ("0.0.0.0:1883", "[::1]:1883"),
    ],
)
def test_addresses_beside_each_other_do_not_clash(one: str, other: str) -> None:
    assert faults(listener("a", one) + listener("b", other)) == []


def test_a_listener_that_is_not_opened_needs_neither_its_address_nor_its_files() -> None:
    assert faults(listener("a") + listener("b", enabled="false", **TLS), missing="c.pem") == []


def test_a_listener_with_everything_is_read() -> None:
    text = listener(**TLS, client_ca='"ca.pem"', client_certificate='"required"')
    assert str(parse(text).listeners[0].client_ca) == "/etc/mqttproxy/ca.pem"
