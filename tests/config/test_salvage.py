"""One run tells everything: a fault in one table does not hide those in another, and makes up none."""

import pytest

from tests.config.documents import UPSTREAM, faults

ROUTE_TO_B = '[[routes]]\ntopics = ["#"]\nto = ["b"]\n'
UNKNOWN_B = 'routes[0].to[0]: found "b", expected one of "a", "local"'


def keys(text: str) -> list[str]:
    return [sentence.split(": ")[0] for sentence in faults(text)]


def test_a_wrong_type_does_not_hide_a_name_that_does_not_exist() -> None:
    assert keys("[proxy]\nid = 5\n" + UPSTREAM + ROUTE_TO_B) == ["proxy.id", "routes[0].to[0]"]


def test_a_wrong_type_in_a_list_does_not_hide_a_fault_of_its_neighbour() -> None:
    text = UPSTREAM + "version = 5\n" + '[[upstreams]]\nname = "b"\nurl = "http://h"\n' + ROUTE_TO_B
    assert keys(text) == ["upstreams[0].version", "upstreams[1].url"]


def test_a_faulty_upstream_still_has_its_name() -> None:
    assert keys('[[upstreams]]\nname = "b"\nurl = 5\n' + ROUTE_TO_B) == ["upstreams[0].url"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[[upstreams]]\nnmae = "b"\nurl = "mqtt://h"\n', "upstreams[0].name"),
        ('[[upstreams]]\nname = 5\nurl = "mqtt://h"\n', "upstreams[0].name"),
        ('[[upstreams]]\nname = "b\\u0000"\nurl = "mqtt://h"\n', "upstreams[0].name"),
        ('[[upstream]]\nname = "b"\nurl = "mqtt://h"\n', "upstream"),
        ('upstreams = "b"\n', "upstreams"),
        ("upstreams = ['b']\n", "upstreams[0]"),
    ],
)
def test_an_upstream_whose_name_cannot_be_read_is_not_told_as_unknown(text: str, key: str) -> None:
    found = keys(text + ROUTE_TO_B)
    assert key in found
    assert not [key for key in found if key.startswith("routes")]


def test_nothing_is_said_about_what_is_missing_beside_a_misspelt_key() -> None:
    text = '[[listeners]]\nname = "a"\nbind = "h:1"\ntransport = "tls"\ncertifcate = "c"\nprivate_key = "k"\n'
    assert keys(text) == ["listeners[0].certifcate"]


def test_faulty_routes_policies_and_listeners_keep_their_places() -> None:
    text = (
        '[[listeners]]\nname = "a"\nbind = 5\n[[listeners]]\nname = "a"\nbind = "h:1"\n'
        '[[policies]]\nname = 5\n[[policies]]\nname = "p"\ntopics = ["#"]\nschema = "s"\n'
        "[[routes]]\nto = 5\n" + ROUTE_TO_B
    )
    assert keys(text) == [
        "listeners[0].bind",
        "policies[0].name",
        "policies[0].topics",
        "routes[0].topics",
        "routes[0].to",
        "listeners[1].name",
        "policies[1].schema",
        "routes[1].to[0]",
    ]
