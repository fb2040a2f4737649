"""Types and unknown keys: each bad input with the exact sentence that people read."""

import pytest

from mqttproxy.config.model import ProxyConfig
from mqttproxy.config.structure import structure
from tests.config.documents import UPSTREAM, faults, parse

DURATION = 'a duration such as "30s", "10m", "7d" or "500ms", or a number of seconds'
SIZE = 'a size such as "16MiB", "64KiB" or "1GB", or a number of bytes'
ADDRESS = '"host:port" such as "0.0.0.0:1883"'
ROUTE = '[[routes]]\ntopics = ["#"]\nto = ["local"]\n'
ONE_OF_PROXY = "expected one of id, data_dir, watch, server_reference, hop_limit, drain_grace"
ACKS = 'one of "memory", "spool", "any", "all", or { quorum = 2 }'

BAD = [
    ("[proxy]\nid = 5", "proxy.id: found 5, expected a text"),
    ('[proxy]\nid = "a\\u0000b"', r'proxy.id: found "a\u0000b", expected a text'),
    ('[proxy]\ndata_dir = ""', 'proxy.data_dir: found "", expected a path'),
    ('[proxy]\ndrain_grace = "10"', f'proxy.drain_grace: found "10", expected {DURATION}'),
    ("[proxy]\ndrain_grace = -1", f"proxy.drain_grace: found -1, expected {DURATION}"),
    ("[proxy]\ndrain_grace = nan", f"proxy.drain_grace: found nan, expected {DURATION}"),
    ("[proxy]\ndrain_grace = true", f"proxy.drain_grace: found true, expected {DURATION}"),
    ('[limits]\npacket_size = "1 MegaByte"', f'limits.packet_size: found "1 MegaByte", expected {SIZE}'),
    ("[limits]\npacket_size = 1883.9", f"limits.packet_size: found 1883.9, expected {SIZE}"),
    ("[limits]\nconnections = 1883.9", "limits.connections: found 1883.9, expected a whole number of at least 1"),
    ("[limits]\nconnections = 1.0", "limits.connections: found 1.0, expected a whole number of at least 1"),
    ("[limits]\nconnections = true", "limits.connections: found true, expected a whole number of at least 1"),
    ("[limits]\nconnections = 0", "limits.connections: found 0, expected a whole number of at least 1"),
    ("[limits]\ntopic_alias_maximum = true", "limits.topic_alias_maximum: found true, expected a whole number"),
    ("[limits]\ntopic_alias_maximum = '1'", 'limits.topic_alias_maximum: found "1", expected a whole number'),
    ('[access]\nallow_anonymous = "false"', 'access.allow_anonymous: found "false", expected true or false'),
    ("[access]\nallow_anonymous = 1", "access.allow_anonymous: found 1, expected true or false"),
    ('[audit]\ndecisions = "some"', 'audit.decisions: found "some", expected one of "exceptions", "all"'),
    ("[audit]\ndecisions = 2026-11-21", 'audit.decisions: found a date, expected one of "exceptions", "all"'),
    (
        "[topics]\nallowed = '#'",
        'topics.allowed: found "#", expected a list, each a topic filter such as "sensor/+/temperature"',
    ),
    (
        "[topics]\nallowed = ['a', 5]",
        'topics.allowed[1]: found 5, expected a topic filter such as "sensor/+/temperature"',
    ),
    (
        "[topics]\non_failure = ['mark']",
        'topics.on_failure[0]: found "mark", expected one of "hold", "alert", "refuse", "disconnect"',
    ),
    ("[[listeners]]\nname = 'a'\nbind = 1883", f"listeners[0].bind: found 1883, expected {ADDRESS}"),
    ("[[listeners]]\nname = 'a'\nbind = ':1883'", f'listeners[0].bind: found ":1883", expected {ADDRESS}'),
    ("[[listeners]]\nname = 'a'", f"listeners[0].bind: found nothing, expected {ADDRESS}"),
    ("[listeners]\nname = 'a'", "listeners: found a table, expected tables, each written [[listeners]]"),
    ("listeners = 5", "listeners: found 5, expected tables, each written [[listeners]]"),
    ("listeners = [5]", "listeners[0]: found 5, expected a table, written [[listeners]]"),
    ("[[limits]]\nconnections = 1", "limits: found a list, expected a table, written [limits]"),
    ("limits = 1", "limits: found 1, expected a table, written [limits]"),
    ('[telemetry]\nmetrics_bind = "9100"', f'telemetry.metrics_bind: found "9100", expected {ADDRESS}, or "" for none'),
    (UPSTREAM + "breaker_ratio = '0.5'", 'upstreams[0].breaker_ratio: found "0.5", expected a number'),
    (UPSTREAM + "breaker_ratio = inf", "upstreams[0].breaker_ratio: found inf, expected a number"),
    (UPSTREAM + "breaker_ratio = true", "upstreams[0].breaker_ratio: found true, expected a number"),
    (UPSTREAM + "version = 5", 'upstreams[0].version: found 5, expected one of "5", "3.1.1"'),
    (UPSTREAM + "password = 12345", "upstreams[0].password: found something that is not shown, expected a text"),
    (ROUTE + "ack = 'one'", f'routes[0].ack: found "one", expected {ACKS}'),
    (ROUTE + "ack = { }", f"routes[0].ack: found a table, expected {ACKS}"),
    ("allow_anonymous = true", "allow_anonymous: found an unknown key; it belongs into [access] or [[access.chains]]"),
    ("[proxy]\nbackoff_first = 1", "proxy.backoff_first: found an unknown key; it belongs into [[upstreams]]"),
    (
        "[proxy]\ncertificate = 1",
        "proxy.certificate: found an unknown key; it belongs into [[listeners]] or [[upstreams]]",
    ),
    ("[proxy]\nzzz = 'geheim'", f"proxy.zzz: found an unknown key, {ONE_OF_PROXY}"),
    ("[proxy]\n'a b.c' = 1", f'proxy."a b.c": found an unknown key, {ONE_OF_PROXY}'),
    (f"[proxy]\n{'k' * 1000} = 1", f'proxy."{"k" * 60}…": found an unknown key, {ONE_OF_PROXY}'),
    ("[proxy]\n'' = 1", f'proxy."": found an unknown key, {ONE_OF_PROXY}'),
    ("[[listener]]\nname = 'a'", 'listener: found an unknown key; did you mean "listeners"?'),
    (UPSTREAM + "pasword = 'geheim'", 'upstreams[0].pasword: found an unknown key; did you mean "password"?'),
    (UPSTREAM + "Password = 'geheim'", 'upstreams[0].Password: found an unknown key; did you mean "password"?'),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_a_bad_value_is_told_in_one_exact_sentence(text: str, sentence: str) -> None:
    assert faults(text) == [sentence]


def test_all_faults_are_told_at_once() -> None:
    text = "[proxy]\nid = 5\ndrain_grace = []\n[acces]\n[limits]\nconnections = 0\nnonsense = 1"
    assert [sentence.split(":")[0] for sentence in faults(text)] == [
        "proxy.id",
        "proxy.drain_grace",
        "limits.connections",
        "limits.nonsense",
        "acces",
    ]


def test_an_empty_file_has_every_default() -> None:
    assert structure({}, "proxy.toml") == ProxyConfig()


def test_no_bind_of_metrics_is_written_as_an_empty_text() -> None:
    assert parse('[telemetry]\nmetrics_bind = ""').telemetry.metrics_bind is None


def test_numbers_without_a_unit_are_seconds_and_bytes() -> None:
    limits = parse("[limits]\nconnect_deadline = 2.5\nqueue_bytes = 1000").limits
    assert (limits.connect_deadline, limits.queue_bytes) == (2.5, 1000)


def test_a_whole_number_is_a_number() -> None:
    assert parse(UPSTREAM + "breaker_ratio = 1").upstreams[0].breaker_ratio == 1


def test_a_bug_of_ours_is_not_told_as_a_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("mqttproxy.config.structure.shown", broken)
    with pytest.raises(ZeroDivisionError):
        parse("[proxy]\nid = 5")


def test_a_secret_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "geheim")
    assert parse(UPSTREAM + 'password = "${BROKER_PASSWORD}"').upstreams[0].password == "geheim"
    assert parse(UPSTREAM + 'password = "a${BROKER_PASSWORD}"').upstreams[0].password == "a${BROKER_PASSWORD}"
    assert parse(UPSTREAM + 'username = "${BROKER_PASSWORD}"').upstreams[0].username == "${BROKER_PASSWORD}"
    monkeypatch.delenv("BROKER_PASSWORD")
    (sentence,) = faults(UPSTREAM + 'password = "${BROKER_PASSWORD}"')
    assert sentence == (
        "upstreams[0].password: found the environment variable BROKER_PASSWORD, which is not set, expected one that is"
    )
