"""What is known of a device, and that nothing it says can be used to choose what it should not."""

from typing import Any

import pytest

from mqttproxy.access import UnsafeAttributeError, attributes_of
from mqttproxy.config.model import AccessSettings, AttributeSettings
from mqttproxy.mqtt.reasons import ReasonCode

MODEL = AttributeSettings(pattern="{model}-{firmware}-+")
SITE = AttributeSettings(source="username", pattern="{site}@acme")
TOLD = AttributeSettings(source="connect_property", property="fw", pattern="{firmware}")


def found(*entries: AttributeSettings, client_id: str = "tx9-2.1-1", username: str | None = None, **more: Any) -> Any:
    settings = AccessSettings(attributes=entries)
    return attributes_of(settings, more.get("labels", ()), client_id, username, more.get("properties", ()))


def test_names_are_taken_apart() -> None:
    assert found(MODEL, SITE, username="north@acme") == {"model": "tx9", "firmware": "2.1", "site": "north"}


def test_what_looks_different_gives_none() -> None:
    assert found(MODEL, SITE, client_id="tx9", username="north@other") == {}
    assert found(SITE) == {}


def test_the_first_that_gives_a_name_its_value_wins() -> None:
    properties = (("x", "9"), ("fw", "3.0"), ("fw", "4.0"))
    assert found(TOLD, MODEL, properties=properties)["firmware"] == "3.0"
    assert found(MODEL, TOLD, properties=properties)["firmware"] == "2.1"


def test_nothing_a_device_says_changes_what_its_listener_says() -> None:
    assert found(MODEL, labels=(("model", "trusted"), ("net", "a"))) == {
        "model": "trusted",
        "net": "a",
        "firmware": "2.1",
    }


@pytest.mark.parametrize("bad", ["a+", "#", "a/b", "a\nb", "a\x7f", "\u202e", "x" * 257])
def test_wildcards_separators_and_what_does_not_print_are_refused(bad: str) -> None:
    for entry, told, reason in (
        (MODEL, {"client_id": f"{bad}-2-1"}, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID),
        (SITE, {"username": f"{bad}@acme"}, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (TOLD, {"properties": (("fw", bad),)}, ReasonCode.NOT_AUTHORIZED),
    ):
        with pytest.raises(UnsafeAttributeError) as raised:
            found(entry, **told)
        assert raised.value.reason is reason


def test_what_no_attribute_is_made_of_may_hold_anything() -> None:
    assert found(MODEL, client_id="a-b-+/#") == {"model": "a", "firmware": "b"}
