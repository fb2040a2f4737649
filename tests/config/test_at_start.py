"""What waits for a restart."""

from attrs import evolve, fields

from mqttproxy.config.at_start import ALONE, AT_START, is_at_start, keep_at_start, needs_restart
from mqttproxy.config.model import AccessSettings, Count, LimitSettings, ProxyConfig, ProxySettings, SpoolSettings

OLD = ProxyConfig()
NEW = evolve(
    OLD,
    proxy=ProxySettings(id="other", watch=True),
    limits=LimitSettings(connections=Count(5)),
    access=AccessSettings(allow_anonymous=True),
    spool=SpoolSettings(durability="process", queue_messages=Count(7)),
)


def test_keys_that_wait_for_a_restart_are_named() -> None:
    assert needs_restart(OLD, NEW) == ("proxy.id", "limits.connections", "spool.durability")
    assert needs_restart(NEW, NEW) == ()
    assert is_at_start("proxy", "id")
    assert not is_at_start("proxy", "watch")
    assert not is_at_start("policies", "level")


def test_a_process_keeps_what_it_was_started_with() -> None:
    kept = keep_at_start(NEW, OLD)
    assert needs_restart(OLD, kept) == ()
    assert kept.proxy.watch is True
    assert kept.access.allow_anonymous is True
    assert kept.spool.queue_messages == 7


def test_tables_and_keys_are_there() -> None:
    names = {table.name for table in fields(ProxyConfig)}
    assert set(AT_START) | {table for table, _ in ALONE} <= names
    for table, live in AT_START.items():
        assert live <= {field.name for field in fields(type(getattr(OLD, table)))}
