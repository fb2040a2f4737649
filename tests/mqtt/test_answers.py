"""Properties of answers: merged, sayable, cut down."""

from mqttproxy.mqtt.answers import (
    EXPLANATION_MAX,
    merged,
    sayable,
    shorter_and_shorter,
    with_reason_string,
    without_problems,
)
from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties, PubAck

FULL = Properties(reason_string="why", user_properties=(("policy", "p"),), server_keep_alive=7)


def test_the_second_properties_win_where_both_have_one() -> None:
    assert merged(Properties(receive_maximum=1, server_keep_alive=2), Properties(receive_maximum=3)) == Properties(
        receive_maximum=3, server_keep_alive=2
    )
    assert merged(FULL, NO_PROPERTIES) is FULL


def test_an_explanation_loses_what_mqtt_cannot_carry() -> None:
    said = sayable(Properties(reason_string="a\0b\ud800c\ufffe", user_properties=(("k\n", "v" * 2000),)))
    assert said.reason_string == "a\ufffdb\ufffdc\ufffd"
    assert said.user_properties == (("k\ufffd", "v" * EXPLANATION_MAX),)


def test_no_properties_stay_the_very_object_that_fast_paths_look_for() -> None:
    assert sayable(NO_PROPERTIES) is NO_PROPERTIES
    assert without_problems(NO_PROPERTIES) is NO_PROPERTIES
    assert with_reason_string(NO_PROPERTIES, None) is NO_PROPERTIES


def test_problem_information_is_the_reason_string_and_the_user_properties() -> None:
    assert without_problems(FULL) == Properties(server_keep_alive=7)


def test_user_properties_go_before_the_reason_string() -> None:
    assert [packet.properties for packet in shorter_and_shorter(PubAck(1, properties=FULL))] == [
        FULL,
        Properties(reason_string="why", server_keep_alive=7),
        Properties(server_keep_alive=7),
    ]
