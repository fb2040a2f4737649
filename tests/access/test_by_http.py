"""The service that is asked by HTTP: its answers, memory, breaker, and what happens when it is down (BAD-INPUT D6)."""

from collections.abc import Iterable
from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from mqttproxy.access.asking import AskError
from mqttproxy.access.by_http import ByHttp
from mqttproxy.access.credentials import Allowed, BackEndDownError, Credentials, Denied
from mqttproxy.config.admitting import HttpSettings

ADA = Credentials(client_id="d", username="ada", password=b"secret", address="192.0.2.1", listener="tcp")
ALLOW = {"result": "allow"}


class Service:
    """Answers in order, the last one again and again; an error is raised."""

    def __init__(self, answers: Iterable[Any]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.closed = 0

    async def post(self, question: dict[str, Any]) -> Any:
        self.asked.append(question)
        await trio.lowlevel.checkpoint()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        self.closed += 1


DOWN = AskError("HTTP 503")


def link(*answers: Any, **settings: Any) -> tuple[ByHttp, Service]:
    service = Service(answers)
    made = HttpSettings(name="service", url="https://auth", **settings)
    return ByHttp(made, service.post, service.aclose, wall=lambda: 1000.0), service


async def test_it_is_told_everything_and_decides() -> None:
    answer = {"result": "allow", "username": "ada@acme", "attributes": {"site": "north"}, "expires_in": 60}
    subject, service = link(answer)
    allowed = await subject.check(ADA)
    assert isinstance(allowed, Allowed)
    assert (allowed.username, allowed.attributes, allowed.expires_at) == ("ada@acme", {"site": "north"}, 1060.0)
    asked = {"client_id": "d", "username": "ada", "password": "secret", "address": "192.0.2.1", "listener": "tcp"}
    assert service.asked == [asked]


async def test_a_password_that_is_no_text_is_told_as_what_it_is() -> None:
    subject, service = link({"result": "deny"})
    await subject.check(evolve(ADA, password=b"\xff"))
    assert (service.asked[0]["password"], service.asked[0]["password_base64"]) == (None, "/w==")


async def test_G9_what_a_device_says_stays_in_its_place() -> None:
    hostile = 'a"}\r\n\r\nGET / HTTP/1.1\0'
    subject, service = link({"result": "deny"})
    await subject.check(evolve(ADA, client_id=hostile, username=hostile, password=hostile.encode()))
    (asked,) = service.asked
    assert (asked["client_id"], asked["username"], asked["password"]) == (hostile,) * 3
    assert set(asked) == {"client_id", "username", "password", "address", "listener"}


async def test_its_other_words() -> None:
    assert isinstance(await link({"result": "deny"})[0].check(ADA), Denied)
    assert await link({"result": "ignore"})[0].check(ADA) is None


@pytest.mark.parametrize(
    "answer",
    [
        None, [], "allow", {}, {"result": True}, {"result": "ALLOW"}, {"allow": True}, {**ALLOW, "username": 7},
        {**ALLOW, "username": "a\nb"}, {**ALLOW, "attributes": ["a"]}, {**ALLOW, "attributes": {"a": 1}},
        {**ALLOW, "attributes": {f"a{n}": "x" for n in range(65)}}, {**ALLOW, "expires_in": "60"},
        {**ALLOW, "expires_in": True}, DOWN,
    ],
)  # fmt: skip
async def test_D6_what_is_no_answer_lets_nobody_in(answer: Any) -> None:
    with pytest.raises(BackEndDownError):
        await link(answer)[0].check(ADA)


async def test_who_was_allowed_is_known_for_a_while(autojump_clock: MockClock) -> None:
    subject, service = link(ALLOW, {"result": "deny"}, cache=60.0)
    for _ in range(3):
        assert isinstance(await subject.check(ADA), Allowed)
    assert len(service.asked) == 1
    assert isinstance(await subject.check(evolve(ADA, password=b"other")), Denied)
    await trio.sleep(60)
    assert isinstance(await subject.check(ADA), Denied)
    assert len(service.asked) == 3


async def test_who_was_denied_is_asked_about_again(autojump_clock: MockClock) -> None:
    subject, _ = link({"result": "deny"}, ALLOW)
    assert isinstance(await subject.check(ADA), Denied)
    assert isinstance(await subject.check(ADA), Allowed)


async def test_what_is_known_is_bounded(autojump_clock: MockClock) -> None:
    subject, _ = link(ALLOW, cache_entries=3)
    for number in range(10):
        await subject.check(evolve(ADA, username=f"u{number}"))
    assert len(subject._known) == 3
    assert not any(b"secret" in digest for digest in subject._known)


async def test_D6_with_cached_it_may_be_down_for_who_was_allowed(autojump_clock: MockClock) -> None:
    subject, _ = link(ALLOW, DOWN, cache=10.0, stale=100.0, on_error="cached")
    await subject.check(ADA)
    await trio.sleep(50)
    assert isinstance(await subject.check(ADA), Allowed)
    with pytest.raises(BackEndDownError):
        await subject.check(evolve(ADA, password=b"other"))
    await trio.sleep(51)
    with pytest.raises(BackEndDownError):
        await subject.check(ADA)


async def test_D6_else_it_lets_nobody_in(autojump_clock: MockClock) -> None:
    subject, _ = link(ALLOW, DOWN, cache=10.0)
    await subject.check(ADA)
    await trio.sleep(11)
    with pytest.raises(BackEndDownError):
        await subject.check(ADA)


async def test_after_some_failures_it_is_left_alone_for_a_while(autojump_clock: MockClock) -> None:
    subject, service = link(DOWN, breaker_failures=3, breaker_open=10.0)
    for _ in range(6):
        with pytest.raises(BackEndDownError):
            await subject.check(ADA)
    assert len(service.asked) == 3
    await trio.sleep(10)
    service.answers = [ALLOW]
    assert isinstance(await subject.check(ADA), Allowed)


async def test_no_more_questions_are_on_their_way_than_may_be(autojump_clock: MockClock) -> None:
    running = most = 0

    async def slow(_question: dict[str, Any]) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1
        return {"result": "deny"}

    subject, _ = link(ALLOW, at_once=4)
    subject._post = slow
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(subject.check, evolve(ADA, username=f"u{number}"))
    assert most == 4
    assert trio.current_time() == 5


async def test_a_reload_keeps_what_is_known_of_the_same_service(autojump_clock: MockClock) -> None:
    before, old = link(ALLOW)
    await before.check(ADA)
    after, new = link({"result": "deny"})
    after.adopt(before)
    assert isinstance(await after.check(ADA), Allowed)
    other, _ = link({"result": "deny"}, timeout=1.0)
    other.adopt(before)
    assert isinstance(await other.check(ADA), Denied)
    await before.aclose()
    assert (old.closed, new.closed) == (1, 0)
