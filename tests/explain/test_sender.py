import pytest

from mqttproxy.explain import NoSuchSenderError, NotLetInError, sender
from tests.config.documents import parse

CONFIG = parse(
    '[[access.attributes]]\npattern = "{model}-{fw}"\n'
    '[[listeners]]\nname = "one"\nbind = "h:1"\nattributes = { site = "n" }\n'
    '[[listeners]]\nname = "two"\nbind = "h:2"\n'
    '[[upstreams]]\nname = "a"\nurl = "mqtt://a"\n'
)


def test_a_device_has_the_attributes_that_it_would_have_and_those_that_are_given() -> None:
    identity = sender(CONFIG, client_id="tx-2", username="u", attributes=[("fw", "3"), ("x", "y")])
    assert (identity.listener, identity.username) == ("one", "u")
    assert identity.attributes == {"site": "n", "model": "tx", "fw": "3", "x": "y"}
    assert sender(CONFIG, client_id="d", listener="two").attributes == {}


def test_an_upstream_is_known_by_its_listener() -> None:
    identity = sender(CONFIG, client_id="ignored", listener="upstream:a")
    assert (identity.client_id, identity.address) == ("", "a")


@pytest.mark.parametrize("listener", ["three", "upstream:b"])
def test_who_cannot_come_in_anywhere_is_no_sender(listener: str) -> None:
    with pytest.raises(NoSuchSenderError, match="in the configuration"):
        sender(CONFIG, client_id="d", listener=listener)


def test_a_device_that_is_not_let_in_is_told_with_the_reason() -> None:
    with pytest.raises(NotLetInError, match=r"0x85 client identifier not valid.*attribute model"):
        sender(CONFIG, client_id="a+b-1")
