"""The authenticator that asks a service by HTTP: with a time-out, a memory of what it has allowed, and a breaker."""

import hmac
import json
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256
from math import inf
from secrets import token_bytes
from typing import Any, Final, Self

import trio
from attrs import evolve

from mqttproxy.access.asking import AskError
from mqttproxy.access.credentials import Allowed, BackEndDownError, Credentials, Denied, Simple
from mqttproxy.config.admitting import HttpSettings
from mqttproxy.config.users_file import name_fault
from mqttproxy.upstream.breaker import Breaker

RATIO: Final = 0.5  # of failures that opens the breaker too, see there
MOST_ATTRIBUTES: Final = 64

Post = Callable[[dict[str, Any]], Awaitable[Any]]


class ByHttp(Simple):
    """See the module."""

    def __init__(
        self,
        settings: HttpSettings,
        post: Post,
        close: Callable[[], Awaitable[None]],
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Make it.

        Args:
            settings: its table.
            post: asks a question; raises AskError.
            close: lets go of connections.
            wall: seconds since 1970.

        """
        self.settings = settings
        self._post, self._close = post, close
        self._wall = wall
        self._breaker = Breaker(failures=settings.breaker_failures, ratio=RATIO, open_for=settings.breaker_open)
        self._limiter = trio.CapacityLimiter(settings.at_once)
        self._key = token_bytes(32)
        self._known: OrderedDict[bytes, tuple[Allowed, float]] = OrderedDict()  # and since when

    async def check(self, credentials: Credentials) -> Allowed | Denied | None:
        """Say what the service says.

        Raises:
            BackEndDownError: it does not answer, or not as it must.

        """
        question = _question(credentials)
        digest = hmac.digest(self._key, json.dumps(question, sort_keys=True).encode(), sha256)
        known, since = self._known.get(digest, (None, -inf))
        age = trio.current_time() - since
        if known is not None and age < self.settings.cache and known.expires_at > self._wall():
            return known
        try:
            answer = self._read(await self._ask(question))
        except AskError as error:
            stale = self.settings.on_error == "cached" and known is not None and age < self.settings.stale
            if stale and known is not None and known.expires_at > self._wall():
                return known
            raise BackEndDownError(str(error)) from error
        self._known.pop(digest, None)  # what it allowed before does not hold any more
        if isinstance(answer, Allowed):
            self._known[digest] = (answer, trio.current_time())
            if len(self._known) > self.settings.cache_entries:
                self._known.popitem(last=False)
        return answer

    async def still(self, allowed: Allowed) -> bool:  # noqa: ARG002 # the service is not asked without a password
        """Say yes: what it was asked is not kept. `expires_in` bounds how long it holds."""
        return True

    def adopt(self, before: Self) -> None:
        """Keep what is known of the same service, and whether it answers."""
        if evolve(before.settings, name=self.settings.name) == self.settings:
            self._key, self._known, self._breaker = before._key, before._known, before._breaker

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._close()

    async def _ask(self, question: dict[str, Any]) -> Any:
        async with self._limiter:
            if not self._breaker.admit(trio.current_time()):
                raise AskError("it has failed too often, and is not asked for a while")
            try:
                answer = await self._post(question)
            except AskError as error:
                self._breaker.failed(trio.current_time(), str(error))
                raise
            self._breaker.succeeded(trio.current_time())
            return answer

    def _read(self, answer: Any) -> Allowed | Denied | None:
        """Return what an answer says. Raises AskError: nothing that can be understood."""
        result = answer.get("result") if isinstance(answer, dict) else None
        if result == "ignore":
            return None
        if result == "deny":
            return Denied(self.settings.name, "the service says so")
        if result != "allow":
            raise AskError("an answer that is none of allow, deny and ignore")
        username, attributes, expires_in = (answer.get(name) for name in ("username", "attributes", "expires_in"))
        if username is not None and (not isinstance(username, str) or name_fault(username)):
            raise AskError("an answer whose username is no name")
        attributes = {} if attributes is None else attributes
        if not isinstance(attributes, dict) or not all(isinstance(one, str) for one in attributes.values()):
            raise AskError("an answer whose attributes are no texts")
        if len(attributes) > MOST_ATTRIBUTES:
            raise AskError("an answer with too many attributes")
        if expires_in is not None and (not isinstance(expires_in, int | float) or isinstance(expires_in, bool)):
            raise AskError("an answer whose expires_in is no number")
        return Allowed(
            by=self.settings.name,
            username=username,
            attributes=attributes,
            expires_at=inf if expires_in is None else self._wall() + expires_in,
        )


def _question(credentials: Credentials) -> dict[str, Any]:
    question: dict[str, Any] = {
        "client_id": credentials.client_id,
        "username": credentials.username,
        "password": None,
        "address": credentials.address,
        "listener": credentials.listener,
    }
    if credentials.password is not None:
        try:
            question["password"] = credentials.password.decode()
        except UnicodeDecodeError:
            question["password_base64"] = b64encode(credentials.password).decode()
    return question
