"""Passwords: who comes in, that nobody can find out who is there, and what an attack costs (BAD-INPUT D6, D9, D10)."""

from collections.abc import Iterator
from statistics import median
from time import perf_counter_ns
from typing import Any

import pytest
import trio

from mqttproxy.access import by_password
from mqttproxy.access.by_password import ByPassword
from mqttproxy.access.credentials import Allowed, BackEndDownError, Credentials, Denied
from mqttproxy.access.hashing import Remembered, hash_password, is_right
from mqttproxy.access.users import User
from mqttproxy.config.admitting import PasswordSettings
from mqttproxy.config.users_file import is_argon2id
from tests.access.users_of_tests import cheap_hashes, user
from tests.fake_rooms import in_place


@pytest.fixture(autouse=True)
def _cheap() -> Iterator[None]:
    with cheap_hashes():
        yield


class Shelf:
    """Users that can become unreadable."""

    def __init__(self, *users: User) -> None:
        self.users = {one.name: one for one in users}
        self.is_down = False

    def find(self, name: str) -> User | None:
        if self.is_down:
            raise BackEndDownError("out of order")
        return self.users.get(name)

    is_live = False

    def stamp(self) -> object:
        return None

    def close(self) -> None:
        raise AssertionError(self)


def link(*users: User, now: Any = lambda: 0.0, remember: float = 600.0, **settings: Any) -> ByPassword:
    return ByPassword(
        PasswordSettings(name="users", **settings),
        Shelf(*users),
        longest=1024,
        remember=remember,
        limiter=trio.CapacityLimiter(2),
        to_thread=in_place,
        now=now,
    )


def shown(username: str | None = "ada", password: str | bytes | None = "correct horse") -> Credentials:
    data = password.encode() if isinstance(password, str) else password
    return Credentials(client_id="d", username=username, password=data)


async def test_the_right_password_comes_in_with_the_attributes_of_the_user() -> None:
    answer = await link(user(attributes={"site": "north"})).check(shown())
    assert isinstance(answer, Allowed)
    assert (answer.by, answer.username, answer.attributes) == ("users", "ada", {"site": "north"})


@pytest.mark.parametrize("password", ["", "Correct horse", "correct horse ", b"\xff", "correct hors"])
async def test_another_password_does_not(password: str | bytes) -> None:
    assert isinstance(await link(user()).check(shown(password=password)), Denied)


@pytest.mark.parametrize(
    "credentials", [shown("bob"), shown(None), shown(password=None), shown(password="x" * 1025), shown("ADA")]
)
async def test_who_is_not_known_or_shows_no_password_is_left_to_the_next(credentials: Credentials) -> None:
    assert await link(user()).check(credentials) is None


async def test_a_disabled_user_does_not_come_in_with_its_password() -> None:
    assert isinstance(await link(user(enabled=False)).check(shown()), Denied)


@pytest.mark.parametrize("name", ["ada", "bob", "off"])
async def test_D9_the_work_is_the_same_whether_a_user_is_there_or_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = link(user(), user("off", enabled=False))
    checked: list[str] = []

    def watched(kept: str, password: bytes) -> bool:
        checked.append(kept)
        return is_right(kept, password)

    monkeypatch.setattr(by_password, "is_right", watched)
    await subject.check(shown(name, "wrong"))
    assert len(checked) == 1
    parameters = {kept.rpartition("$")[0].rpartition("$")[0] for kept in checked}
    assert parameters == {subject._nobodys.rpartition("$")[0].rpartition("$")[0]}


def test_D9_ten_thousand_attempts_do_not_tell_who_is_there() -> None:
    """Between a user that is there, and has just been here, and one that is not.

    The hashes are a thousand times cheaper than real ones, and what is left of a difference must be lost beside one:
    less than a hundredth of a cheap hash, which is a hundred thousandth of a real one. Without the work for who is not
    there it is all of it. Both are asked in pairs: what slows the machine slows both, and medians leave out the rest.
    """
    subject = link(user())
    assert subject._look("ada", b"correct horse")[1]
    times: dict[str, list[int]] = {"ada": [], "eve": []}
    for turn in range(5_000):
        for name in ("ada", "eve") if turn % 2 else ("eve", "ada"):
            began = perf_counter_ns()
            subject._look(name, b"wrong")
            times[name].append(perf_counter_ns() - began)
    differences = [there - not_there for there, not_there in zip(*times.values(), strict=True)]
    assert abs(median(differences)) < median(times["eve"]) / 100


@pytest.mark.parametrize("size", [1025, 64 * 1024])
async def test_D10_a_password_that_is_too_long_is_no_work(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(_kept: str, _password: bytes) -> bool:
        raise AssertionError

    subject = link(user())
    monkeypatch.setattr(by_password, "is_right", worked)
    assert await subject.check(shown(password=b"x" * size)) is None


async def test_a_password_that_was_right_is_known_again_without_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    time = [0.0]
    subject = link(user(), now=lambda: time[0])
    assert isinstance(await subject.check(shown()), Allowed)
    monkeypatch.setattr(by_password, "is_right", lambda *_: False)
    assert isinstance(await subject.check(shown()), Allowed)
    assert isinstance(await subject.check(shown(password="wrong")), Denied)
    time[0] = 600.0
    assert isinstance(await subject.check(shown()), Denied)


async def test_a_password_that_was_changed_is_not_known_again(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = link(user())
    assert isinstance(await subject.check(shown()), Allowed)
    subject.users.users["ada"] = user(password="another one")  # type: ignore[attr-defined] # of the shelf
    assert isinstance(await subject.check(shown()), Denied)


def test_what_is_remembered_is_bounded_and_holds_no_password() -> None:
    subject = Remembered(600.0, most=3)
    for number in range(5):
        subject.learn(f"u{number}", "kept", b"secret", 0.0)
    assert list(subject._known) == ["u2", "u3", "u4"]
    assert not any(b"secret" in digest for digest, _ in subject._known.values())


async def test_D6_users_that_cannot_be_read_let_nobody_in() -> None:
    subject = link(user())
    await subject.check(shown())
    subject.users.is_down = True  # type: ignore[attr-defined] # of the shelf
    with pytest.raises(BackEndDownError):
        await subject.check(shown())


async def test_with_cached_they_let_in_whose_password_was_right_a_moment_ago() -> None:
    subject = link(user(), user("bob"), on_error="cached")
    await subject.check(shown())
    subject.users.is_down = True  # type: ignore[attr-defined] # of the shelf
    assert isinstance(await subject.check(shown()), Allowed)
    for other in (shown(password="wrong"), shown("bob")):
        with pytest.raises(BackEndDownError):
            await subject.check(other)


async def test_a_reload_forgets_no_password_and_notices_a_changed_user() -> None:
    before = link(user())
    allowed = await before.check(shown())
    assert isinstance(allowed, Allowed)
    after = link(*before.users.users.values())  # type: ignore[attr-defined] # of the shelf
    after.adopt(before)
    assert after.remembered is before.remembered
    assert await after.still(allowed)
    after.users.users.clear()  # type: ignore[attr-defined] # of the shelf
    assert not await after.still(allowed)


async def test_D10_no_more_passwords_are_checked_at_once_than_may_be() -> None:
    running = most = 0
    limiter = trio.CapacityLimiter(2)

    async def to_thread(call: Any, *, abandon_on_cancel: bool, limiter: trio.CapacityLimiter) -> Any:
        nonlocal running, most
        async with limiter:
            running += 1
            most = max(most, running)
            await trio.testing.wait_all_tasks_blocked()
            running -= 1
            return call()

    subject = ByPassword(
        PasswordSettings(name="users"), Shelf(), longest=1024, remember=1.0, limiter=limiter, to_thread=to_thread
    )
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(subject.check, shown(f"u{number}"))
    assert most == 2


class TestHashes:
    def test_a_new_password_is_kept_as_argon2id_and_never_the_same(self) -> None:
        first, second = hash_password(b"secret"), hash_password(b"secret")
        assert is_argon2id(first)
        assert first != second
        assert is_right(first, b"secret")
        assert not is_right(first, b"secret2")

    @pytest.mark.parametrize("kept", ["", "secret", "$argon2id$v=19$m=65536,t=3,p=4$", "$2b$12$abcdefghijklmnopqrstuv"])
    def test_D6_what_is_no_hash_is_nobodys_password(self, kept: str) -> None:
        assert not is_right(kept, kept.encode())
        assert not is_right(kept, b"")
