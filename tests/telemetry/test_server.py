import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection, HTTPResponse

import pytest
import trio

from mqttproxy.telemetry import server as server_module
from mqttproxy.telemetry.health import Health
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.telemetry.server import serve
from tests.waiting import PATIENCE

JSONS = {"application/json", "application/problem+json"}


class Page:
    """A server over real loopback."""

    def __init__(self) -> None:
        self.metrics = Metrics(node="gw-1")
        self.health = Health()
        self.health.report("listeners", ok=True)
        self.address = ""

    async def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[HTTPResponse, bytes]:
        def in_thread() -> tuple[HTTPResponse, bytes]:
            connection = HTTPConnection(self.address, timeout=PATIENCE)
            try:
                connection.request(method, path, body)
                response = connection.getresponse()
                return response, response.read()
            finally:
                connection.close()

        return await trio.to_thread.run_sync(in_thread)

    async def connect(self) -> trio.SocketStream:
        host, _, port = self.address.rpartition(":")
        return await trio.open_tcp_stream(host, int(port))


@asynccontextmanager
async def page() -> AsyncIterator[Page]:
    one = Page()
    async with trio.open_nursery() as nursery:
        one.address = await nursery.start(serve, "127.0.0.1:0", one.metrics, one.health, lambda: {"node": "gw-1"})
        with trio.fail_after(PATIENCE):
            yield one
        nursery.cancel_scope.cancel()


async def test_metrics_are_served_as_text() -> None:
    async with page() as server:
        server.metrics.valid += 3
        response, body = await server.ask("GET", "/metrics")
    assert response.status == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'mqtt_proxy_messages_total{status="valid"} 3.0\n' in body


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_health_is_served_as_json(path: str) -> None:
    async with page() as server:
        response, body = await server.ask("GET", path)
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["status"] == "ok"


async def test_trouble_is_answered_with_503_and_the_reason() -> None:
    async with page() as server:
        server.health.report("quarantine", ok=False, reason="disk full")
        ready, body = await server.ask("GET", "/ready")
        live, _ = await server.ask("GET", "/health")
    assert (ready.status, live.status) == (503, 200)
    assert json.loads(body)["components"]["quarantine"]["reason"] == "disk full"


async def test_the_status_is_served_as_json_whatever_it_says() -> None:
    async with page() as server:
        server.health.report("quarantine", ok=False, reason="disk full")
        response, body = await server.ask("GET", "/status")
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == {"node": "gw-1"}


async def test_head_is_answered_without_a_body() -> None:
    async with page() as server:
        response, body = await server.ask("HEAD", "/ready")
    assert (response.status, body) == (200, b"")
    assert int(response.headers["content-length"]) > 0


@pytest.mark.parametrize("path", ["/", "/nowhere", "/metrics/", "/%2e%2e/etc/passwd", "/<script>"])
async def test_G7_any_other_place_is_a_problem_in_json(path: str) -> None:
    async with page() as server:
        response, body = await server.ask("GET", path)
    assert (response.status, response.headers["content-type"]) == (404, "application/problem+json")
    assert json.loads(body)["status"] == 404
    assert b"script" not in body


@pytest.mark.parametrize("path", ["/metrics", "/health", "/ready", "/status", "/<script>alert(1)</script>"])
async def test_G3_G5_no_answer_is_a_web_page_or_for_another_origin(path: str) -> None:
    async with page() as server:
        server.health.report("<script>", ok=False, reason="<img src=x onerror=alert(1)>")
        response, _ = await server.ask("GET", path)
    assert response.headers["content-type"].partition(";")[0] in {"text/plain", *JSONS}
    assert response.headers["x-content-type-options"] == "nosniff"
    assert not {"set-cookie", "access-control-allow-origin"} & {name.lower() for name in response.headers}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_G5_any_other_method_is_not_allowed(method: str) -> None:
    async with page() as server:
        response, body = await server.ask(method, "/metrics", b"ignored" * 1000)
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
    assert json.loads(body)["status"] == 405


async def test_G7_a_body_without_end_is_not_waited_for() -> None:
    async with page() as server:
        stream = await server.connect()
        async with stream:
            await stream.send_all(
                b"POST /ready HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n" + b"a" * 9999
            )
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 405")
            while await stream.receive_some():
                pass


@pytest.mark.parametrize(
    "lie",
    [
        b"Content-Length: 5\r\nContent-Length: 50",
        b"Content-Length: -1",
        b"Content-Length: 5, 50",
        b"Content-Length: 0x10",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding : chunked",
        b"Content-Length\0: 5",
        b"X: y\r\n: z",
    ],
)
async def test_G7_a_request_that_could_be_read_in_two_ways_is_turned_away(lie: bytes) -> None:
    async with page() as server:
        stream = await server.connect()
        async with stream:
            await stream.send_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n" + lie + b"\r\n\r\nGET /status HTTP/1.1\r\n\r\n")
            answer = b""
            with trio.fail_after(PATIENCE):
                while more := await stream.receive_some():
                    answer += more
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_G7_what_is_not_http_is_turned_away_and_the_next_client_served() -> None:
    async with page() as server:
        stream = await server.connect()
        async with stream:
            await stream.send_all(b"\x10\x0c\x00\x04MQTT\x05\x02\x00<\x00\x00\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 400")
        response, _ = await server.ask("GET", "/ready")
    assert response.status == 200


async def test_G5_a_websocket_is_refused() -> None:
    async with page() as server:
        stream = await server.connect()
        async with stream:
            await stream.send_all(
                b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 403")


async def test_cancelling_is_quick_with_open_connections() -> None:
    server = Page()
    async with trio.open_nursery() as nursery:
        server.address = await nursery.start(serve, "127.0.0.1:0", server.metrics, server.health)
        kept, silent, halfway = [await server.connect() for _ in range(3)]
        await kept.send_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await kept.receive_some()).startswith(b"HTTP/1.1 200")
        await halfway.send_all(b"GET /rea")
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < server_module.STALL_SECONDS / 2  # none of them is waited for
    for stream in (kept, silent, halfway):
        async with stream:
            with trio.fail_after(PATIENCE):
                while await stream.receive_some():
                    pass


async def test_a_client_that_takes_nothing_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "STALL_SECONDS", 1)
    server = Page()
    async with trio.open_nursery() as nursery:
        server.address = await nursery.start(serve, "127.0.0.1:0", server.metrics, server.health)
        stream = await server.connect()
        with trio.move_on_after(1):  # until the server is stuck in writing, and reads no more
            while True:
                await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 5
    await stream.aclose()


async def test_the_port_is_free_again_after_cancelling() -> None:
    async with page() as server:
        address = server.address
    async with trio.open_nursery() as nursery:
        assert await nursery.start(serve, address, Metrics(), Health()) == address
        nursery.cancel_scope.cancel()


async def test_an_address_that_is_taken_is_told_in_words() -> None:
    async with page() as server:
        with pytest.raises(OSError, match=f"cannot listen on {server.address} for metrics: .*in use"):
            await serve(server.address, Metrics(), Health())


def broken() -> None:
    raise KeyError("a bug")


async def test_a_bug_in_a_callback_is_an_answer_of_500_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with page() as server:
        server.metrics.refresh.append(broken)
        response, _ = await server.ask("GET", "/metrics")
        server.metrics.refresh.clear()
        again, _ = await server.ask("GET", "/metrics")
    assert (response.status, again.status) == (500, 200)
    assert "KeyError" in caplog.text


async def test_http_2_is_spoken_although_it_is_loaded_only_then() -> None:
    async with page() as server:
        stream = await server.connect()
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        received = await stream.receive_some()
        assert received[3] == 4  # SETTINGS
        await stream.aclose()
