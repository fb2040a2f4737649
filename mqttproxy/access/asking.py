"""Asking others over HTTP, JSON out and in: bounded in time and size, and never sent on to somebody else."""

import json
from pathlib import Path
from typing import Any, Final

import httpx2
import trio

from mqttproxy.transport.tls import client_context

LARGEST: Final = 256 * 1024  # bytes of an answer
EXTRA: Final = "install mqttproxy[http], which brings httpx2"


class AskError(Exception):
    """There is no good answer; in words, without what was asked."""


class Asker:
    """Asks one address, over connections that are kept. One for an authenticator."""

    def __init__(
        self, url: str, *, ca: Path | None, timeout: float, at_once: int = 8, token: str | None = None
    ) -> None:
        """Make it; nothing is dialled.

        Args:
            url: https, or http to this machine.
            ca: that its certificate must come from; None: one of the system's.
            timeout: seconds, for everything.
            at_once: connections.
            token: sent as a bearer token.

        Raises:
            TransportError: the CA cannot be loaded.

        """
        self._url = url
        self._timeout = timeout
        headers = {"accept": "application/json"} | ({} if token is None else {"authorization": f"Bearer {token}"})
        self._client = httpx2.AsyncClient(
            verify=client_context(ca=ca) if url.startswith("https:") else False,
            headers=headers,
            limits=httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once),
            timeout=timeout,
            trust_env=False,
            follow_redirects=False,
        )

    async def get(self) -> Any:
        """Return the document that is there. Raises AskError."""
        return await self._ask("GET", None)

    async def post(self, question: dict[str, Any]) -> Any:
        """Return the document that answers a question. Raises AskError."""
        return await self._ask("POST", question)

    async def aclose(self) -> None:
        """Let go of its connections."""
        await self._client.aclose()

    async def _ask(self, method: str, question: dict[str, Any] | None) -> Any:
        data = bytearray()
        with trio.move_on_after(self._timeout) as patience:
            try:
                async with self._client.stream(method, self._url, json=question) as response:
                    if response.status_code != httpx2.codes.OK:
                        raise AskError(f"HTTP {response.status_code}")
                    async for part in response.aiter_bytes():
                        data += part
                        if len(data) > LARGEST:
                            raise AskError(f"an answer of more than {LARGEST} bytes")
            except (httpx2.HTTPError, RuntimeError) as error:  # that: no thread could be started to resolve a name in
                raise AskError(f"{type(error).__name__}: {error}"[:200]) from error
        if patience.cancelled_caught:
            raise AskError(f"no answer within {self._timeout:g} s")
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise AskError("an answer that is no JSON") from error
