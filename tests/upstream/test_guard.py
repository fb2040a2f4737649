"""What messages say of the proxies they have passed."""

import pytest

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties, Publish
from mqttproxy.upstream.guard import HOPS, LOOP, ORIGIN, SENDER, SENDERS_LIMIT, Senders, admit, without_stamps


def said(*user: tuple[str, str], content_type: str | None = None) -> Publish:
    return Publish("t", b"x", 1, properties=Properties(user_properties=user, content_type=content_type), packet_id=3)


def user(message: object) -> tuple[tuple[str, str], ...]:
    assert isinstance(message, Message)
    return message.properties.user_properties


def test_what_no_proxy_has_seen_is_left_as_it_is() -> None:
    message = said(("a", "1"), ("mp", "2"))
    assert admit(message, "gw", 1) is message


def test_a_message_of_another_proxy_has_passed_one_more() -> None:
    message = said(("a", "1"), (HOPS, "1"), (ORIGIN, "edge"), ("b", "2"))
    assert user(admit(message, "gw", 1)) == (("a", "1"), ("b", "2"), (HOPS, "2"), (ORIGIN, "edge"))


@pytest.mark.parametrize(
    ("hops", "limit", "is_loop"), [("1", 0, True), ("1", 1, False), ("2", 1, True), ("9", 9, False)]
)
def test_with_more_hops_than_the_limit_it_has_gone_round(hops: str, limit: int, is_loop: bool) -> None:
    assert (admit(said((HOPS, hops)), "gw", limit) is LOOP) is is_loop


def test_of_several_numbers_the_highest_counts() -> None:
    assert admit(said((HOPS, "1"), (HOPS, "7")), "gw", 5) is LOOP


def test_what_began_here_has_gone_round() -> None:
    assert admit(said((ORIGIN, "other"), (ORIGIN, "gw")), "gw", 100) is LOOP


@pytest.mark.parametrize("number", ["", "-1", "x", "1.0", "²", "99999", "1" * 5000])
def test_what_is_no_number_says_nothing_and_does_no_harm(number: str) -> None:
    assert admit(said((HOPS, number)), "gw", 1) == Publish("t", b"x", 1, packet_id=3)


def test_what_only_proxies_may_say_is_taken_off() -> None:
    lies = ((SENDER, "x"), ("mqttproxy-new", "y"), ("mp-policy", "p"), ("mp-schema", "s"), ("mp-pointer", "/"))
    assert user(admit(said(*lies, ("a", "1")), "gw", 1)) == (("a", "1"),)
    admitted = admit(said(*lies), "gw", 1)
    assert isinstance(admitted, Publish)
    assert admitted.properties is NO_PROPERTIES
    kept = admit(said(*lies, content_type="c"), "gw", 1)
    assert isinstance(kept, Publish)
    assert kept.properties == Properties(content_type="c")


def test_a_sender_is_known_again_and_its_hash_is_taken_off() -> None:
    senders = Senders()
    signed = senders.signed(Message("t", b""), "device-1")
    assert b"device-1".hex() not in str(signed)
    assert "device-1" not in str(signed)
    assert senders.unsigned(signed) == (Message("t", b""), "device-1")
    more = senders.signed(said(("a", "1")), "device-2")
    assert senders.unsigned(more) == (said(("a", "1")), "device-2")


def test_the_hash_of_another_process_says_nothing_and_is_taken_off() -> None:
    signed = Senders().signed(Message("t", b""), "device-1")
    assert Senders().unsigned(signed) == (Message("t", b""), "")
    plain = said(("a", "1"))
    assert Senders().unsigned(plain) == (plain, "")


def test_the_oldest_senders_are_forgotten() -> None:
    senders = Senders()
    first, second = (senders.signed(Message("t", b""), client_id) for client_id in ("first", "second"))
    for number in range(SENDERS_LIMIT - 2):
        senders._client_ids[str(number)] = ""
    senders.signed(Message("t", b""), "first")  # again
    senders.signed(Message("t", b""), "one more")
    assert senders.unsigned(first)[1] == "first"
    assert senders.unsigned(second)[1] == ""
    assert len(senders._client_ids) == SENDERS_LIMIT


def test_without_stamps_nothing_of_it_is_seen() -> None:
    assert without_stamps(said((HOPS, "2"), (ORIGIN, "o"), ("a", "1"))) == said(("a", "1"))
    plain = said(("a", "1"), ("mp-policy", "p"))
    assert without_stamps(plain) is plain
