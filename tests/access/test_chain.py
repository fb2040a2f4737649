"""Chains and the gate: order, fail closed, bound client identifiers, refusals that tell nothing (BAD-INPUT D5, D6)."""

from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from mqttproxy.access.chain import Chain, Chains
from mqttproxy.access.credentials import Allowed, BackEndDownError, Credentials, Denied
from mqttproxy.access.gate import Gate
from mqttproxy.config.admitting import AccessSettings, PasswordSettings
from mqttproxy.mqtt.reasons import ReasonCode

DOWN = BackEndDownError("out of order")
OPEN = AccessSettings(allow_anonymous=True)
SHUT = AccessSettings()
NOBODY = Credentials(client_id="d")
ADA = Credentials(client_id="d", username="ada", password=b"secret", address="192.0.2.1")


class Link:
    """An authenticator that answers what the test says."""

    def __init__(self, answer: Any, name: str = "one", client_id: str | None = None) -> None:
        self.settings = PasswordSettings(name=name, client_id=client_id)
        self.answer = answer
        self.asked = 0
        self.adopted: Any = None

    async def check(self, credentials: Credentials) -> Any:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    methods = frozenset[str]()

    async def converse(self, credentials: Credentials, ask: Any) -> Any:
        raise AssertionError(credentials)

    is_live = False

    async def stamp(self) -> object:
        return None

    async def aclose(self) -> None:
        raise AssertionError(self)

    async def still(self, allowed: Allowed) -> bool:
        return True

    def adopt(self, before: Any) -> None:
        self.adopted = before


def allowed(name: str = "ada", **attributes: str) -> Allowed:
    return Allowed(by="one", username=name, attributes=attributes)


DENIED = Denied("one", "wrong password")


@pytest.mark.parametrize(
    ("answers", "comes_in", "asked"),
    [
        ([], False, []),
        ([None], False, [1]),
        ([allowed()], True, [1]),
        ([DENIED], False, [1]),
        ([DOWN], False, [1]),
        ([None, allowed()], True, [1, 1]),
        ([allowed(), DENIED], True, [1, 0]),
        ([DENIED, allowed()], False, [1, 0]),
        ([DOWN, allowed()], False, [1, 0]),
        ([None, DOWN], False, [1, 1]),
        ([None, None], False, [1, 1]),
    ],
)
@pytest.mark.parametrize("settings", [OPEN, SHUT])
async def test_the_first_that_knows_a_device_decides(
    answers: list[Any], comes_in: bool, asked: list[int], settings: AccessSettings
) -> None:
    if not answers and settings is OPEN:
        return  # see the next test
    links = [Link(answer) for answer in answers]
    answer = await Chain(links).check(ADA, settings)
    assert isinstance(answer, Allowed) is comes_in
    assert [link.asked for link in links] == asked


async def test_without_anybody_to_ask_credentials_mean_nothing() -> None:
    answer = await Chain().check(ADA, OPEN)
    assert isinstance(answer, Allowed)
    assert (answer.by, answer.username) == ("", "ada")
    assert isinstance(await Chain().check(ADA, SHUT), Denied)


@pytest.mark.parametrize(
    ("own", "settings", "comes_in"),
    [(None, OPEN, True), (None, SHUT, False), (True, SHUT, True), (False, OPEN, False)],
)
async def test_anonymous_is_who_shows_nothing_and_only_where_it_is_written(
    own: bool | None, settings: AccessSettings, comes_in: bool
) -> None:
    chain = Chain([Link(None)], own)
    assert isinstance(await chain.check(NOBODY, settings), Allowed) is comes_in
    for some in (evolve(NOBODY, username="ada"), evolve(NOBODY, password=b"")):
        assert isinstance(await chain.check(some, settings), Denied)


@pytest.mark.parametrize(
    ("template", "client_id", "comes_in"),
    [
        (None, "anything", True),
        ("${username}", "ada", True),
        ("${username}", "ADA", False),
        ("${username}", "adam", False),
        ("${username}-*", "ada-1", True),
        ("${username}-*", "bob-1", False),
        ("${site}-${username}", "north-ada", True),
        ("${line}", "north", False),
    ],
)
async def test_D5_client_identifiers_are_bound_to_who_it_is(
    template: str | None, client_id: str, comes_in: bool
) -> None:
    chain = Chain([Link(allowed(site="north"), client_id=template)])
    answer = await chain.check(evolve(ADA, client_id=client_id), SHUT)
    assert isinstance(answer, Allowed) is comes_in


@pytest.mark.parametrize("name", ["*", "a?a", ""])
async def test_D5_a_name_is_no_glob(name: str) -> None:
    chain = Chain([Link(allowed(name), client_id="${username}")])
    assert isinstance(await chain.check(evolve(ADA, client_id="ada"), SHUT), Denied)


class TestGate:
    def gate(self, *links: Link, wall: float = 0.0, **settings: Any) -> tuple[Gate, AccessSettings]:
        access = AccessSettings(**settings)
        gate = Gate(lambda: wall)
        gate.use(Chains(Chain(links)), access)
        return gate, access

    @pytest.mark.parametrize("answer", [DENIED, None, DOWN])
    async def test_D9_a_refusal_takes_its_time_whatever_it_is_for(self, answer: Any, autojump_clock: MockClock) -> None:
        gate, access = self.gate(Link(answer), refusal_delay=0.5)
        assert isinstance(await gate.check(ADA, access), Denied)
        assert trio.current_time() == 0.5

    async def test_who_may_come_in_does_not_wait(self, autojump_clock: MockClock) -> None:
        gate, access = self.gate(Link(allowed()))
        assert isinstance(await gate.check(ADA, access), Allowed)
        assert trio.current_time() == 0

    async def test_D10_after_some_failures_nobody_is_asked_for_a_while(self, autojump_clock: MockClock) -> None:
        link = Link(DENIED)
        gate, access = self.gate(link, failures=2, refusal_delay=0.25)
        for _ in range(2):
            await gate.check(ADA, access)
        answer = await gate.check(ADA, access)
        assert isinstance(answer, Denied)
        assert answer.reason is ReasonCode.CONNECTION_RATE_EXCEEDED
        assert link.asked == 2
        assert isinstance(await gate.check(evolve(ADA, address="192.0.2.2"), access), Denied)
        assert link.asked == 3
        await trio.sleep(1.0)
        await gate.check(ADA, access)
        assert link.asked == 4

    async def test_neither_a_back_end_that_is_down_nor_no_credentials_count_as_failures(
        self, autojump_clock: MockClock
    ) -> None:
        gate, access = self.gate(Link(DOWN), failures=1)
        for _ in range(5):
            answer = await gate.check(ADA, access)
            assert isinstance(answer, Denied)
            assert answer.reason is ReasonCode.SERVER_UNAVAILABLE
        gate, access = self.gate(Link(None), failures=1)
        for _ in range(5):
            answer = await gate.check(NOBODY, access)
            assert isinstance(answer, Denied)
            assert answer.reason is ReasonCode.NOT_AUTHORIZED

    async def test_credentials_that_have_expired_do_not_let_in(self, autojump_clock: MockClock) -> None:
        gate, access = self.gate(Link(Allowed(by="one", expires_at=100.0)), wall=100.0)
        assert isinstance(await gate.check(ADA, access), Denied)

    def test_a_reload_keeps_what_authenticators_know_that_stay(self) -> None:
        old, new, other = Link(None), Link(None), Link(None, "other")
        gate, access = self.gate(old)
        gate.use(Chains(Chain((new, other))), access)
        assert new.adopted is old
        assert other.adopted is None
        gate.use(gate.chains, access)
        assert new.adopted is old
