"""The keys of an issuer, fetched over HTTPS: kept for a while, renewed in time, used on while the issuer is away."""

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final

import trio

from mqttproxy.access.asking import AskError
from mqttproxy.access.credentials import BackEndDownError
from mqttproxy.access.keys import TokenKey, read_set
from mqttproxy.config.admitting import TokenSettings

UNKNOWN_EVERY: Final = 30.0  # seconds between two fetches because of keys that are not known
RETRY: Final = 10.0  # seconds before another fetch after one that has failed

Fetch = Callable[[], Awaitable[Any]]


class FetchedKeys:
    """See the module. Times in seconds; one fetch at a time, however many wait for it."""

    def __init__(self, settings: TokenSettings, fetch: Fetch, close: Callable[[], Awaitable[None]]) -> None:
        """Make it; nothing is fetched before the first token.

        Args:
            settings: its table.
            fetch: returns the document, or raises AskError.
            close: lets go of connections.

        """
        self.settings = settings
        self._fetch, self._close = fetch, close
        self.keys: dict[str | None, TokenKey] = {}
        self.fetched_at = -inf
        self.tried_at = -inf
        self.trouble = "they were not fetched yet"
        self._one = trio.Lock()

    async def find(self, kid: str | None) -> TokenKey | None:
        """Return a key, None: there is none.

        Raises:
            BackEndDownError: there are none that may be used.

        """
        await self._renew(self.settings.jwks_refresh)
        if kid not in self.keys:  # the issuer may have a new one
            await self._renew(UNKNOWN_EVERY)
        if trio.current_time() - self.fetched_at >= self.settings.jwks_keep:
            raise BackEndDownError(f"the issuer's keys: {self.trouble}")
        return self.keys.get(kid)

    def adopt(self, before: Any) -> None:
        """Take over what was fetched from the same address for the same use."""
        if not isinstance(before, FetchedKeys) or _source(before.settings) != _source(self.settings):
            return
        self.keys, self.fetched_at, self.tried_at = before.keys, before.fetched_at, before.tried_at
        self.trouble = before.trouble

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._close()

    async def _renew(self, age: float) -> None:
        """Fetch them if they are older than this, and the last attempt was not just now."""
        async with self._one:
            now = trio.current_time()
            pause = RETRY if self.tried_at > self.fetched_at else 0.0
            if now - self.fetched_at < age or now - self.tried_at < pause:
                return
            self.tried_at = now
            try:
                self.keys = read_set(await self._fetch(), self.settings.jwks_algorithms)
            except (AskError, ValueError) as error:
                self.trouble = str(error)
            else:
                self.fetched_at = self.tried_at = now


def _source(settings: TokenSettings) -> tuple[object, ...]:
    return settings.issuer, settings.jwks, settings.jwks_ca, settings.jwks_algorithms
