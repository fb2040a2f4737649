"""mqttproxy/access/asking.py over real sockets: who is asked decides about nothing but the answer (BAD-INPUT G8)."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define

from mqttproxy.access.asking import LARGEST, Asker, AskError
from tests.waiting import PATIENCE


@define
class Service:
    """Gives everybody the same answer, and counts them."""

    answer: bytes
    url: str = ""
    asked: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.asked += 1
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        await stream.send_all(self.answer)


def http(status: str, body: bytes = b"", *more: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *more])
    return head.encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def service(answer: bytes) -> AsyncIterator[Service]:
    made = Service(answer)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    made.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, made.serve, [listener])
        with trio.fail_after(PATIENCE):
            yield made
        nursery.cancel_scope.cancel()


async def ask(url: str) -> object:
    asker = Asker(url, ca=None, timeout=PATIENCE)
    try:
        return await asker.get()
    finally:
        await asker.aclose()


async def test_the_answer_is_a_document() -> None:
    async with service(http("200 OK", b'{"result": "allow"}')) as one:
        assert await ask(one.url) == {"result": "allow"}


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
async def test_G8_an_answer_that_leads_elsewhere_is_not_followed(status: str) -> None:
    async with service(http("200 OK", b"{}")) as inner, service(http(status, b"", f"Location: {inner.url}")) as outer:
        with pytest.raises(AskError, match=f"HTTP {status[:3]}"):
            await ask(outer.url)
        assert (outer.asked, inner.asked) == (1, 0)


async def test_G8_the_environment_leads_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async with service(http("200 OK", b"{}")) as other, service(http("200 OK", b'{"right": 1}')) as one:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, other.url)
        assert await ask(one.url) == {"right": 1}
        assert other.asked == 0


# httpx2 leaves the generators of an answer that is not read to its end to the garbage collector, which says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_answer_that_is_too_large_is_none() -> None:
    async with service(http("200 OK", b" " * (LARGEST + 1))) as one:
        with pytest.raises(AskError, match=f"more than {LARGEST} bytes"):
            await ask(one.url)
        gc.collect()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 99_999, b"\xff"])
async def test_an_answer_that_is_no_json_is_none(body: bytes) -> None:
    async with service(http("200 OK", body)) as one:
        with pytest.raises(AskError, match="no JSON"):
            await ask(one.url)
