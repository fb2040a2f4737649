from hypothesis import given, strategies as st

from mqttproxy.mqtt.packets import NO_PROPERTIES, Properties
from mqttproxy.quarantine.model import properties_from_json, properties_to_json, storable, storable_or_none, weigh
from tests.quarantine.examples import make_held

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@given(
    st.builds(
        Properties,
        content_type=st.none() | TEXT,
        correlation_data=st.none() | st.binary(max_size=5),
        message_expiry_interval=st.none() | st.integers(0, 2**32 - 1),
        user_properties=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    )
)
def test_properties_come_back_from_their_json(properties: Properties) -> None:
    assert properties_from_json(properties_to_json(properties)) == properties


def test_no_properties_are_no_json() -> None:
    assert properties_to_json(Properties()) is None
    assert properties_from_json(None) is NO_PROPERTIES


def test_lone_surrogates_are_escaped_wherever_they_stand() -> None:
    assert storable("a\udc80é") == "a\\udc80é"
    assert storable_or_none("\ud800") == "\\ud800"
    assert storable_or_none(None) is None
    properties = Properties(content_type="\udc80", user_properties=(("\udc81", "\udc82"),))
    assert properties_from_json(properties_to_json(properties)) == Properties(
        content_type="\\udc80", user_properties=(("\\udc81", "\\udc82"),)
    )


def test_everything_that_a_device_can_make_large_weighs() -> None:
    light = weigh(make_held(payload=b"", failures=()))
    assert light == 0
    assert weigh(make_held(payload=b"12345", failures=())) == 5
    assert weigh(make_held(payload=b"", failures=(("/a", "type", "wrong"),))) == 11
    assert weigh(make_held(payload=b"", failures=(), properties=Properties(user_properties=(("k", "v" * 100),)))) > 100
