"""Keys that are fetched: when, how often, and what happens while the issuer is away (BAD-INPUT D7)."""

from typing import Any

import pytest
import trio
from joserfc.jwk import ECKey
from trio.testing import MockClock

from mqttproxy.access.asking import AskError
from mqttproxy.access.credentials import BackEndDownError
from mqttproxy.access.jwks import FetchedKeys
from mqttproxy.config.admitting import TokenSettings
from mqttproxy.config.kinds import Seconds

KEY = ECKey.generate_key("P-256").as_dict(private=False)


class Issuer:
    def __init__(self, *kids: str) -> None:
        self.kids = list(kids)
        self.is_down = False
        self.fetches = 0

    async def fetch(self) -> Any:
        self.fetches += 1
        await trio.sleep(0.5)
        if self.is_down:
            raise AskError("HTTP 503")
        return {"keys": [{**KEY, "kid": kid} for kid in self.kids]}

    async def aclose(self) -> None:
        self.is_down = True


def keys_of(issuer: Issuer, **more: Any) -> FetchedKeys:
    settings = TokenSettings(
        name="tokens", issuer="https://id", audience="mqtt", jwks="https://id/keys", jwks_refresh=Seconds(100.0),
        jwks_keep=Seconds(500.0), **more,
    )  # fmt: skip
    return FetchedKeys(settings, issuer.fetch, issuer.aclose)


async def test_they_are_fetched_with_the_first_token_and_used_for_a_while(autojump_clock: MockClock) -> None:
    issuer = Issuer("a")
    keys = keys_of(issuer)
    assert issuer.fetches == 0
    for _ in range(5):
        assert await keys.find("a") is not None
    assert issuer.fetches == 1
    await trio.sleep(100)
    assert await keys.find("a") is not None
    assert issuer.fetches == 2


async def test_however_many_wait_they_are_fetched_once(autojump_clock: MockClock) -> None:
    issuer = Issuer("a")
    keys = keys_of(issuer)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(keys.find, "a")
    assert issuer.fetches == 1


async def test_a_key_that_is_not_known_is_looked_for_but_not_again_and_again(autojump_clock: MockClock) -> None:
    issuer = Issuer("a")
    keys = keys_of(issuer)
    await keys.find("a")
    issuer.kids = ["a", "b"]
    for _ in range(20):
        assert await keys.find("b") is None
    assert issuer.fetches == 1
    await trio.sleep(30)
    assert await keys.find("b") is not None
    assert issuer.fetches == 2


async def test_a_key_that_was_withdrawn_is_not_used_any_more(autojump_clock: MockClock) -> None:
    issuer = Issuer("a")
    keys = keys_of(issuer)
    await keys.find("a")
    issuer.kids = ["b"]
    await trio.sleep(100)
    assert await keys.find("a") is None


async def test_D7_while_the_issuer_is_away_they_are_used_on_but_not_for_ever(autojump_clock: MockClock) -> None:
    issuer = Issuer("a")
    keys = keys_of(issuer)
    await keys.find("a")
    issuer.is_down = True
    await trio.sleep(100)
    for _ in range(20):
        assert await keys.find("a") is not None
    assert issuer.fetches == 2, "it is not asked with every token"
    await trio.sleep(400)
    with pytest.raises(BackEndDownError):
        await keys.find("a")
    issuer.is_down = False
    await trio.sleep(10)
    assert await keys.find("a") is not None


async def test_D7_an_issuer_that_was_never_there_lets_nobody_in(autojump_clock: MockClock) -> None:
    issuer = Issuer("a")
    issuer.is_down = True
    keys = keys_of(issuer)
    for _ in range(5):
        with pytest.raises(BackEndDownError):
            await keys.find("a")
    assert issuer.fetches == 1


async def test_a_reload_keeps_what_was_fetched_from_the_same_address(autojump_clock: MockClock) -> None:
    issuer = Issuer("a")
    before = keys_of(issuer)
    await before.find("a")
    same, other = keys_of(issuer), keys_of(issuer, jwks_algorithms=("ES512",))
    for after in (same, other):
        after.adopt(before)
    assert await same.find("a") is not None
    assert issuer.fetches == 1
    assert await other.find("a") is None
    assert issuer.fetches == 2
