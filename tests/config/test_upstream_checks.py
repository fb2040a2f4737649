"""Cross-checks of upstreams, with the exact sentences."""

import pytest

from mqttproxy.config.upstream_checks import URL_WORDS
from tests.config.documents import faults, parse

PLAIN = "expected none, because the url is neither mqtts nor wss"


def upstream(url: str = "mqtt://h", name: str = "a", **values: str) -> str:
    settings = {"name": f'"{name}"', "url": f'"{url}"'} | values
    return "\n".join(["[[upstreams]]", *(f"{key} = {value}" for key, value in settings.items()), ""])


BAD = [
    (
        upstream(name="local"),
        'upstreams[0].name: found "local", expected another name; it means the proxy itself',
    ),
    (
        upstream(name="b") + upstream(name="b"),
        'upstreams[1].name: found "b", expected a name of its own; upstreams[0] has it',
    ),
    ("".join(upstream(name=f"u{n}") for n in range(63)), "upstreams: found 63 of them, expected at most 62"),
    (upstream(ca='"ca.pem"'), f'upstreams[0].ca: found "/etc/mqttproxy/ca.pem", {PLAIN}'),
    (upstream("ws://h/mqtt", insecure_skip_verify="true"), f"upstreams[0].insecure_skip_verify: found true, {PLAIN}"),
    (
        upstream("mqtts://h", certificate='"c.pem"'),
        "upstreams[0].private_key: found nothing, expected the key of certificate",
    ),
    (
        upstream("mqtts://h", private_key='"k.pem"'),
        "upstreams[0].certificate: found nothing, expected the certificate of private_key",
    ),
    (
        upstream("mqtts://h", ca='"gone.pem"'),
        'upstreams[0].ca: found "/etc/mqttproxy/gone.pem", no such file, expected a readable file',
    ),
    (
        upstream() + 'password_file = "gone.pem"',
        'upstreams[0].password_file: found "/etc/mqttproxy/gone.pem", no such file, expected a readable file',
    ),
    (
        upstream(username='"u"') + "password = 'geheim'\npassword_file = 'p'",
        "upstreams[0].password_file: found both password and password_file, expected one of them",
    ),
    (
        upstream(version='"3.1.1"') + "password = 'geheim'",
        "upstreams[0].username: found nothing, expected a user name; MQTT 3.1.1 has no password without one",
    ),
    (
        upstream(client_id='""'),
        'upstreams[0].client_id: found "", expected a client identifier; leave the key out for <proxy.id>-<name>',
    ),
    (
        upstream(client_id='"x"') + upstream(name="b", client_id='"x"'),
        'upstreams[1].client_id: found "x", expected another one; "a" has it at the same broker',
    ),
    (
        upstream(backoff_first='"3m"'),
        "upstreams[0].backoff_first: found 3m, expected at most backoff_ceiling, which is 2m",
    ),
    (upstream(breaker_ratio="0"), "upstreams[0].breaker_ratio: found 0, expected more than 0 and at most 1"),
    (upstream(breaker_ratio="1.1"), "upstreams[0].breaker_ratio: found 1.1, expected more than 0 and at most 1"),
    (upstream(queue_bytes="0"), "upstreams[0].queue_bytes: found 0B, expected 1B to 1024TiB"),
    (upstream(in_flight="65536"), "upstreams[0].in_flight: found 65536, expected 1 to 65535"),
    (upstream(keep_alive="0"), "upstreams[0].keep_alive: found 0s, expected 1s to 65535s"),
    (
        upstream("kafka://h:9092"),
        (
            f'upstreams[0].url: found "kafka://h:9092", expected {URL_WORDS}; '
            "this kind of destination comes with a later version"
        ),
    ),
    (
        upstream("mqtt://user:geheim@h"),
        f'upstreams[0].url: found "mqtt://***@h", expected {URL_WORDS}; user name and password have keys of their own',
    ),
    (
        upstream("mqtt://h/topic"),
        f'upstreams[0].url: found "mqtt://h/topic", expected {URL_WORDS}; only ws and wss have a path',
    ),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_upstreams_that_do_not_fit_are_told_in_one_exact_sentence(text: str, sentence: str) -> None:
    assert faults(text, missing="gone.pem") == [sentence]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "h:1883",
        "mqtt:h",
        "mqtt:///",
        "http://h",
        "mqtt://h:0",
        "mqtt://h:65536",
        "mqtt://h:x",
        "mqtt://[::1",
        "mqtt://h h",
        "mqtt://h#f",
        "mqtt://höst",
        "mqtt://h\\t",
        "mqtt://:1883",
        "mqtt://a,b",
        "//h",
    ],
)
def test_what_is_no_url_is_told(url: str) -> None:
    (sentence,) = faults(upstream(url))
    assert sentence.startswith("upstreams[0].url: found ")
    assert sentence.endswith(f", expected {URL_WORDS}")


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://h",
        "mqtt://h/",
        "mqtt://127.0.0.1:1901",
        "mqtts://broker.example:8883",
        "ws://h:8084/mqtt?x=1",
        "wss://[::1]:8085/mqtt",
        "MQTT://Host",
    ],
)
def test_a_url_is_read(url: str) -> None:
    assert parse(upstream(url)).upstreams[0].url == url


@pytest.mark.parametrize(
    "url", ["mqtt://u:geheim@h", "http://u:geheim@h", "mqtt://u:geheim@h:x", "u:geheim@h", "kafka:u:geheim@h"]
)
def test_credentials_in_a_url_are_not_shown(url: str) -> None:
    assert "geheim" not in faults(upstream(url))[0]


def test_a_disabled_upstream_needs_no_files() -> None:
    assert faults(upstream("mqtts://h", enabled="false", ca='"gone.pem"'), missing="gone.pem") == []


def test_an_upstream_with_everything_is_read() -> None:
    text = upstream("wss://h/mqtt", ca='"ca"', certificate='"c"', private_key='"k"', username='"u"')
    assert parse(text + "password = 'geheim'").upstreams[0].username == "u"
