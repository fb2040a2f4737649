"""Chapter 3.2: CONNACK."""

import pytest

from tests.bad_input.wire import V5, V311
from tests.conformance.device import BOTH, FOR_LONG, Server
from tests.conformance.packets import Kind, Prop, Will, connect, prop, publish
from tests.conformance.statements import holds_5, holds_311


@BOTH
@holds_5("3.2.2-2", "3.1.2-4")
@holds_311("3.2.2-1", "3.1.2-6")
def test_after_a_clean_start_no_session_is_present(server: Server, version: int) -> None:
    device = server.stay(version)
    device.leave()
    again = server.join(version, device.client_id)
    assert (again.connack.reason, again.connack.session_present) == (0, False)


@BOTH
@holds_5("3.2.2-3", "3.1.2-6")
@holds_311("3.2.2-3", "3.1.2-4")
def test_the_first_session_of_a_device_is_not_present_before(server: Server, version: int) -> None:
    connack = server.stay(version).connack
    assert (connack.reason, connack.session_present) == (0, False)


@BOTH
@holds_5("3.2.2-3", "3.1.2-5", "3.1.2-23")
@holds_311("3.2.2-2", "3.1.2-4")
def test_a_kept_session_is_said_to_be_present(server: Server, version: int) -> None:
    device = server.stay(version)
    device.leave()
    connack = server.stay(version, device.client_id).connack
    assert (connack.reason, connack.session_present) == (0, True)


@BOTH
@holds_5("3.2.2-3", "4.1.0-2")
@holds_311("3.2.2-3", "3.1.2-6")
def test_a_session_that_ended_with_its_connection_is_not_present(server: Server, version: int) -> None:
    device = server.join(version)
    device.leave()
    assert not server.stay(version, device.client_id).connack.session_present


@BOTH
@holds_5("3.2.2-6", "3.2.2-7", "3.2.2-8", "4.13.2-1")
@holds_311("3.2.2-4", "3.2.2-5")
def test_a_refusal_speaks_of_no_session_and_ends_the_connection(server: Server, version: int) -> None:
    device = server.stay(version)
    device.leave()
    heard = server.refused(connect(version, device.client_id + "x" * 1000, clean=False), version)
    assert [(one.kind, one.session_present) for one in heard] == [(Kind.CONNACK, False)]
    assert heard[0].reason == (0x85 if version == V5 else 2)


@holds_311("3.2.2-6", "3.1.4-1")
def test_where_3_1_1_has_no_code_for_a_refusal_nothing_is_said(server: Server) -> None:
    assert server.refused(connect(V311, "c", will=Will("a/#")), V311) == []
    assert server.refused(connect(V311, "c", flags=0x01), V311) == []


@holds_5("3.2.2-9")
def test_all_three_qos_are_served_so_that_no_maximum_is_said(server: Server) -> None:
    connack = server.join(V5).connack
    assert connack.value(Prop.MAXIMUM_QOS) is None


@holds_5("3.2.2-13")
def test_retained_messages_are_served_so_that_nothing_else_is_said(server: Server) -> None:
    assert server.join(V5).connack.value(Prop.RETAIN_AVAILABLE) in (None, 1)


@holds_5("3.2.2-15", "4.13.1-1")
def test_a_packet_larger_than_we_said_ends_the_connection(server: Server) -> None:
    device = server.join(V5)
    most = device.connack.value(Prop.MAXIMUM_PACKET_SIZE)
    device.send(publish(V5, "t", b"x" * most))
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x95)]


@holds_5("3.2.2-17", "3.3.2-9")
def test_a_topic_alias_above_what_we_said_ends_the_connection(server: Server) -> None:
    device = server.join(V5)
    most = device.connack.value(Prop.TOPIC_ALIAS_MAXIMUM)
    device.send(publish(V5, "t", fields=[prop(Prop.TOPIC_ALIAS, most + 1)]))
    assert [(one.kind, one.reason) for one in device.rest()] == [(Kind.DISCONNECT, 0x94)]


@pytest.mark.parametrize("size", [10, 20, 64, 127])
@holds_5("3.2.2-19", "3.2.2-20", "3.1.2-24")
def test_a_refusal_is_no_larger_than_the_device_takes(server: Server, size: int) -> None:
    heard = server.refused(connect(V5, "c", fields=[prop(Prop.MAXIMUM_PACKET_SIZE, size)]))
    assert [one.kind for one in heard] == [Kind.CONNACK]
    assert all(len(one.raw) <= size for one in heard)


@holds_5("3.2.2-19", "3.2.2-20")
def test_a_refusal_says_why_and_which_rule_it_was(server: Server) -> None:
    (answer,) = server.refused(connect(V5, "c", fields=[prop(Prop.AUTHENTICATION_METHOD, "x")]))
    assert (answer.kind, answer.reason) == (Kind.CONNACK, 0x8C)
    assert "authentication method" in answer.value(Prop.REASON_STRING)
    assert answer.all_of(Prop.USER_PROPERTY) == [("rule", "access")]
    assert answer.value(Prop.SERVER_REFERENCE) is None


@holds_5("3.1.2-24", "3.2.2-16")
def test_a_welcome_fits_into_128_bytes_whatever_it_has_to_say(server: Server) -> None:
    device = server.dial(V5)
    connack = device.connect("", keep_alive=0, fields=[FOR_LONG, prop(Prop.MAXIMUM_PACKET_SIZE, 128)])
    assert connack.reason == 0
    assert connack.value(Prop.ASSIGNED_CLIENT_IDENTIFIER)
    assert len(connack.raw) <= 128


@holds_5("3.2.2-22", "3.2.2-21")
def test_a_keep_alive_that_is_not_kept_is_told(server: Server) -> None:
    assert server.join(V5, keep_alive=60).connack.value(Prop.SERVER_KEEP_ALIVE) is None
    assert server.join(V5, keep_alive=0).connack.value(Prop.SERVER_KEEP_ALIVE) == 3600
    assert server.join(V5, keep_alive=65535).connack.value(Prop.SERVER_KEEP_ALIVE) == 3600


@holds_5("3.1.2-23", "3.2.2-3")
def test_a_session_expiry_that_is_kept_as_asked_is_not_told_otherwise(server: Server) -> None:
    assert server.stay(V5).connack.value(Prop.SESSION_EXPIRY_INTERVAL) in (None, 300)
    without = server.join(V5).connack
    assert without.value(Prop.SESSION_EXPIRY_INTERVAL) in (None, 0)


@holds_5("4.8.2-1")
def test_shared_subscriptions_are_not_said_to_be_missing(server: Server) -> None:
    connack = server.join(V5).connack
    for which in (
        Prop.SHARED_SUBSCRIPTION_AVAILABLE,
        Prop.SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        Prop.WILDCARD_SUBSCRIPTION_AVAILABLE,
    ):
        assert connack.value(which) in (None, 1)
