"""Bans: whom one keeps out, and how they are kept."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, strategies as st

from mqttproxy.limiting.bans import Ban, Bans, Kind, TooManyBansError, as_lines, canonical, read_lines
from mqttproxy.validation import Identity


def ban(kind: Kind, value: str, until: float | None = None) -> Ban:
    known_by = canonical(kind, value)
    assert known_by is not None
    return Ban(kind, known_by, "why", "me", 0.0, until)


def bans(*some: Ban, most: int = 100) -> Bans:
    made = Bans(most)
    for one in some:
        made.add(one, 0.0)
    return made


def who(client_id: str = "c", username: str | None = None, address: str = "192.0.2.7") -> Identity:
    return Identity(client_id, username, address, "l")


@pytest.mark.parametrize(
    ("one", "inside", "outside"),
    [
        (ban("client", "c"), who(), who("d")),
        (ban("username", "u"), who(username="u"), who("u")),
        (ban("address", "192.0.2.7"), who(), who(address="192.0.2.8")),
        (ban("address", "192.0.2.0/24"), who(), who(address="192.0.3.7")),
        (ban("address", "0.0.0.0/0"), who(), who(address="::1")),
        (ban("address", "2001:db8::/32"), who(address="2001:db8:1::1"), who(address="2001:db9::1")),
        (ban("address", "fe80::/10"), who(address="fe80::1%eth0"), who(address="local")),
        (ban("address", "::ffff:192.0.2.0/120"), who(), who(address="192.0.3.1")),
    ],
)
def test_who_is_meant_and_nobody_else(one: Ban, inside: Identity, outside: Identity) -> None:
    some = bans(one)
    assert some.against(inside, 1.0) == one
    assert some.against(outside, 1.0) is None
    assert some.remove(one.kind, one.value) == one
    assert some.against(inside, 1.0) is None


ADDRESSES = st.one_of(st.integers(0, 15).map(lambda n: f"192.0.2.{n}"), st.integers(0, 15).map(lambda n: f"::{n:x}"))


@given(st.lists(st.tuples(ADDRESSES, st.integers(0, 4), st.booleans()), max_size=12), ADDRESSES)
def test_networks_are_found_as_by_looking_at_each(changes: list[tuple[str, int, bool]], address: str) -> None:
    some, kept = Bans(), set()
    for text, shorter, is_added in changes:
        length = (128 if ":" in text else 32) - shorter
        network = ip_network(f"{text}/{length}", strict=False)
        if is_added:
            some.add(ban("address", str(network)), 0.0)
            kept.add(network)
        else:
            some.remove("address", str(network))
            kept.discard(network)
    expected = any(ip_address(address) in network for network in kept if network.version == ip_address(address).version)
    assert (some.against(who(address=address), 0.0) is not None) is expected


def test_a_ban_is_over_at_its_time() -> None:
    some = bans(ban("client", "c", until=10.0))
    assert some.against(who(), 9.9) is not None
    assert some.against(who(), 10.0) is None
    assert (some.forget_over(10.0), len(some)) == (1, 0)


def test_there_are_at_most_so_many_and_those_that_are_over_make_room() -> None:
    some = bans(ban("client", "a", until=10.0), ban("client", "b"), most=2)
    with pytest.raises(TooManyBansError, match="there are 2 bans"):
        some.add(ban("client", "c"), 9.0)
    some.add(ban("client", "b", until=5.0), 9.0)  # instead of the other one
    some.add(ban("client", "c"), 10.0)
    assert [one.value for one in some] == ["c"]


@pytest.mark.parametrize("value", ["", "300.1.1.1", "192.0.2.0/33", "here", "1:2"])
def test_what_is_no_address_is_not_banned(value: str) -> None:
    assert canonical("address", value) is None


TEXTS = st.text(min_size=1, max_size=20)


@given(st.lists(st.builds(Ban, st.sampled_from(["client", "username"]), TEXTS, TEXTS, TEXTS, st.floats(0, 1e10))))
def test_what_is_written_is_read_back(some: list[Ban]) -> None:
    assert read_lines(as_lines(some)) == (some, 0)


@given(st.binary(max_size=60))
def test_a_damaged_line_takes_no_other_with_it(noise: bytes) -> None:
    first, last = ban("client", "a"), ban("address", "192.0.2.0/24", 5.0)
    found, damaged = read_lines(as_lines([first]) + noise.replace(b"\n", b"") + b"\n" + as_lines([last]))
    assert (found[0], found[-1]) == (first, last)
    assert damaged == (1 if noise.splitlines() else damaged) or damaged >= 1


@pytest.mark.parametrize("field", ['"kind": "x"', '"value": 1', '"since": "x"', '"until": true', '"reason": null'])
def test_a_line_whose_values_are_of_another_kind_is_damaged(field: str) -> None:
    line = as_lines([ban("client", "a")]).decode()
    key = field.partition(":")[0]
    start = line.index(key)
    end = min(where for where in (line.find(",", start), line.find("}", start)) if where > 0)
    assert read_lines((line[:start] + field + line[end:]).encode()) == ([], 1)
