"""The authenticator that knows users and their passwords."""

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

import trio

from mqttproxy.access.credentials import NO_METHODS, Allowed, Ask, BackEndDownError, Credentials, Denied
from mqttproxy.access.hashing import Remembered, is_right, nobodys
from mqttproxy.access.users import User, Users
from mqttproxy.apart import IN_THREAD, ToThread
from mqttproxy.config.admitting import PasswordSettings
from mqttproxy.mqtt.reasons import ReasonCode

if TYPE_CHECKING:
    from mqttproxy.access.scram import Conversation, Verifier

T = TypeVar("T")

KEPT: Final = 10_000  # users at most that are known while the others cannot be read


class ByPassword:
    """See the module.

    Whether a user is there or not, enabled or not, the work is the same and so is the answer (`BAD-INPUT` D9).
    """

    def __init__(
        self,
        settings: PasswordSettings,
        users: Users,
        *,
        longest: int,
        remember: float,
        limiter: trio.CapacityLimiter,
        data_dir: Path = Path(),
        to_thread: ToThread = IN_THREAD,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it; blocking, for a tenth of a second.

        Args:
            settings: its table.
            users: that it knows.
            longest: bytes of a password.
            remember: seconds for which a right password is known again.
            limiter: how many passwords are checked at once, by all authenticators.
            data_dir: where the secret of this installation is, for SCRAM.
            to_thread: where they are.
            now: monotonic seconds.

        """
        self.settings = settings
        self.users = users
        self.methods = frozenset(("SCRAM-SHA-256", "SCRAM-SHA-512")) if settings.scram else NO_METHODS
        self._data_dir = data_dir
        self.remembered = Remembered(remember)
        self._longest = longest
        self._limiter = limiter
        self._watching = trio.CapacityLimiter(1)  # not behind passwords
        self._to_thread = to_thread
        self._now = now
        self._nobodys = nobodys()
        self._last_seen: OrderedDict[str, User] = OrderedDict()  # for `on_error`

    async def check(self, credentials: Credentials) -> Allowed | Denied | None:
        """Say whether the password is that of the user; a user that is not known is not ours."""
        name, password = credentials.username, credentials.password
        if name is None or password is None or len(password) > self._longest:
            return None
        user, right = await self._in_thread(partial(self._look, name, password))
        if user is None:
            return None
        if not right or not user.enabled:
            return Denied(self.settings.name, "wrong password" if user.enabled else "the user is disabled")
        return Allowed(by=self.settings.name, username=name, attributes=user.attributes, rests_on=user)

    async def converse(self, credentials: Credentials, ask: Ask) -> Allowed | Denied:
        """Let a device prove that it knows a password, by SCRAM, without showing it."""
        from mqttproxy.access.scram import Conversation, ScramError, parse_verifier, secret_of  # noqa: PLC0415 - an extra

        mechanism, found = credentials.method or "", list[User]()

        def find(name: str) -> "Verifier | None":
            user = self.users.find(name)
            if user is None or not user.enabled or mechanism not in user.scram:
                return None
            found.append(user)
            return parse_verifier(user.scram[mechanism])

        def start() -> "tuple[Conversation, bytes]":
            conversation = Conversation(mechanism, find, secret_of(self._data_dir))
            return conversation, conversation.start(credentials.data)

        try:
            conversation, challenge = await self._in_thread(start)
            last = conversation.finish(await ask(challenge))
        except ScramError as error:
            return Denied(self.settings.name, f"{mechanism}: {error}", ReasonCode.NOT_AUTHORIZED)
        (user,) = found
        return Allowed(by=self.settings.name, username=user.name, attributes=user.attributes, rests_on=user, data=last)

    async def aclose(self) -> None:
        """Let go of connections."""
        self.users.close()

    async def still(self, allowed: Allowed) -> bool:
        """Say whether the user is as it was when its device came in."""
        return await self._in_thread(partial(self.users.find, allowed.username or "")) == allowed.rests_on

    @property
    def is_live(self) -> bool:
        """Whether users may change without a reload."""
        return self.users.is_live

    async def stamp(self) -> object:
        """Return what differs when users have changed. Raises BackEndDownError."""
        stamp: object = await self._to_thread(self.users.stamp, abandon_on_cancel=True, limiter=self._watching)
        return stamp

    def adopt(self, before: Self) -> None:
        """Know the passwords that were right: what is kept of them is part of what is remembered."""
        before.remembered.seconds = self.remembered.seconds
        self.remembered, self._last_seen = before.remembered, before._last_seen

    async def _in_thread(self, call: Callable[[], T]) -> T:
        # Given up, it holds its place among the limited ones all the same until it is done.
        result: T = await self._to_thread(call, abandon_on_cancel=True, limiter=self._limiter)
        return result

    def _look(self, name: str, password: bytes) -> tuple[User | None, bool]:
        try:
            user = self.users.find(name)
        except BackEndDownError:
            last = self._last_seen.get(name)
            if self.settings.on_error == "cached" and last is not None and self._knows(last, password):
                return last, True
            raise
        # The same steps for who is not there, as nobody: neither the answer nor its time tells.
        kept = self._nobodys if user is None or not user.enabled else user.password
        if self.remembered.knows(name, kept, password, self._now()):
            return user, True
        right = is_right(kept, password)
        if user is not None and user.enabled and right:
            self.remembered.learn(name, kept, password, self._now())
            if self.settings.on_error == "cached":
                self._keep(user)
        return user, right

    def _knows(self, user: User, password: bytes) -> bool:
        return user.enabled and self.remembered.knows(user.name, user.password, password, self._now())

    def _keep(self, user: User) -> None:
        self._last_seen.pop(user.name, None)
        self._last_seen[user.name] = user
        if len(self._last_seen) > KEPT:
            self._last_seen.popitem(last=False)
