from typing import Any

import pytest
from hypothesis import assume, given, strategies as st

from mqttproxy.config.model import ProxyConfig, RouteSettings, UpstreamSettings
from mqttproxy.mqtt.topics import matches, overlaps
from mqttproxy.upstream.routing import CACHED_TOPICS, LOCAL_ROUTE, Route, RouteTable, covers


def table(upstreams: str, *routes: dict[str, Any]) -> RouteTable:
    """Make a table; an upstream in upper case is not enabled."""
    return RouteTable(
        ProxyConfig(
            upstreams=tuple(
                UpstreamSettings(name=name.lower(), url="mqtt://h", enabled=name.islower()) for name in upstreams
            ),
            routes=tuple(RouteSettings(**route) for route in routes),
        )
    )


def test_without_routes_everything_goes_to_all_upstreams_and_is_at_home_at_the_first() -> None:
    routes = table("abc")
    assert routes.route_for("x/y") == Route(("a", "b", "c"), "spool", "wait", "a")
    assert routes.home_of("x/y") == "a"
    assert routes.homes_for_filter("#") == {"a"}


def test_without_upstreams_everything_is_local() -> None:
    for routes in (table(""), table("A"), table("", {"topics": ("x",), "to": ("local",)})):
        assert routes.route_for("y") == LOCAL_ROUTE
        assert routes.home_of("y") == "local"
        assert routes.homes_for_filter("#") == {"local"}


def test_the_first_route_in_file_order_applies_with_all_it_says() -> None:
    routes = table(
        "ab",
        {"topics": ("x/+", "z"), "to": ("b", "local", "b"), "ack": "any", "when_full": "drop_oldest", "home": "local"},
        {"topics": ("x/#",), "to": ("a",)},
    )
    assert routes.route_for("x/1") == Route(("b", "local"), "any", "drop_oldest", "local")
    assert routes.route_for("z") == routes.route_for("x/1")
    assert routes.route_for("x/1/2") == Route(("a",), "spool", "wait", "a")


def test_how_old_a_message_may_be_is_said_by_the_route_of_its_topic() -> None:
    routes = table(
        "aB",
        {"topics": ("x/#",), "to": ("a",), "max_age": 30.0},
        {"topics": ("y",), "to": ("b",), "max_age": 5.0},
        {"topics": ("#",), "to": ("a",)},
    )
    assert [routes.max_age_of(topic) for topic in ("x/1", "x/1", "y", "z")] == [30.0, 30.0, 5.0, None]
    assert table("a").max_age_of("x") is None


def test_a_topic_without_a_route_goes_nowhere_and_is_at_home_at_the_first_upstream() -> None:
    routes = table("Cab", {"topics": ("x",), "to": ("b",)})
    assert routes.route_for("y") is None
    assert routes.route_for("$aws/y") is None
    assert routes.home_of("y") == "a"


def test_the_home_is_the_first_upstream_of_the_route_unless_it_says_otherwise() -> None:
    routes = table(
        "abC",
        {"topics": ("1",), "to": ("local", "b", "a")},
        {"topics": ("2",), "to": ("local",)},
        {"topics": ("3",), "to": ("b",), "home": "a"},
        {"topics": ("4",), "to": ("b",), "home": "c"},
    )
    assert [routes.home_of(topic) for topic in "1234"] == ["b", "local", "a", "b"]


def test_a_route_whose_upstreams_are_all_off_is_no_route_and_no_other_steps_in() -> None:
    routes = table("Ab", {"topics": ("secret",), "to": ("a",)}, {"topics": ("#",), "to": ("b", "a")})
    assert routes.route_for("secret") is None
    assert routes.home_of("secret") == "b"
    assert routes.route_for("x") == Route(("b",), home="b")


@pytest.mark.parametrize("topic", ["$SYS/broker/uptime", "$proxy/errors/me", "$SYS", "$proxy"])
def test_the_proxy_s_own_topics_are_local_whatever_the_routes_say(topic: str) -> None:
    routes = table("a", {"topics": ("$SYS/#", "$proxy/#", "#"), "to": ("a",)})
    assert routes.route_for(topic) == LOCAL_ROUTE
    assert routes.homes_for_filter(topic + "/#") == {"local"}


def test_a_filter_over_several_homes_finds_them_all() -> None:
    routes = table(
        "ab",
        {"topics": ("x/#",), "to": ("b",)},
        {"topics": ("x/never/first",), "to": ("a",), "home": "local"},
        {"topics": ("y/1",), "to": ("local",)},
    )
    assert routes.homes_for_filter("x/+") == {"b"}
    assert routes.homes_for_filter("x/never/first") == {"b"}
    assert routes.homes_for_filter("+/1") == {"b", "local", "a"}
    assert routes.homes_for_filter("y/1") == {"local"}
    assert routes.homes_for_filter("$share/g/y/1") == {"local"}
    assert routes.homes_for_filter("q") == {"a"}


def test_the_cache_is_bounded_and_hides_nothing() -> None:
    routes = table("a", {"topics": ("x/#",), "to": ("a",)})
    for number in range(CACHED_TOPICS + 10):
        assert routes.route_for(f"x/{number}") is not None
        assert routes.route_for(f"y/{number}") is None
    assert len(routes._cache) == CACHED_TOPICS


LEVELS = st.sampled_from(["a", "b", "+", "$s", ""])
FILTERS = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(LEVELS, min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
) | st.just("#")
TOPICS = st.lists(st.sampled_from(["a", "b", "c", "$s", ""]), min_size=1, max_size=4).map("/".join)


@given(FILTERS, FILTERS, TOPICS)
def test_what_covers_a_filter_matches_all_that_it_matches(wide: str, narrow: str, topic: str) -> None:
    assume(wide and narrow and topic)
    if covers(wide, narrow):
        assert overlaps(wide, narrow)
        assert matches(wide, topic) or not matches(narrow, topic)


@given(st.lists(st.tuples(FILTERS, st.sampled_from(["a", "b", "c", "local"])), max_size=4), FILTERS, TOPICS)
def test_the_home_of_every_topic_that_a_filter_matches_is_among_its_homes(
    routes: list[tuple[str, str]], topic_filter: str, topic: str
) -> None:
    assume(topic_filter and topic and all(name for name, _ in routes))
    made = table("abc", *({"topics": (name,), "to": (to,)} for name, to in routes))
    if matches(topic_filter, topic):
        assert made.home_of(topic) in made.homes_for_filter(topic_filter)
    as_written: list[tuple[str, tuple[str, ...]]] = [(name, (to,)) for name, to in routes] or [("#", ("a", "b", "c"))]
    route = made.route_for(topic)
    first = next((to for name, to in as_written if matches(name, topic)), None)
    assert (route and route.destinations) == first
