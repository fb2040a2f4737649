"""The page that machines read: /metrics, /health, /ready and /status over HTTP, by hypercorn in our own nursery."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

import orjson
import trio

from mqttproxy.telemetry.exposition import CONTENT_TYPE, Exposition
from mqttproxy.telemetry.health import JSON, Health
from mqttproxy.telemetry.jsonlines import encode_line
from mqttproxy.telemetry.light import light_imports
from mqttproxy.telemetry.metrics import Metrics

with light_imports():
    from hypercorn.config import Config
    from hypercorn.trio import serve as hypercorn_serve
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope

SILENCE_SECONDS: Final = 20  # a client that says nothing is disconnected; longer than the usual 15 s between scrapes
STALL_SECONDS: Final = 10  # so is one that takes nothing

_JSON: Final = b"application/json"
_PROBLEM: Final = b"application/problem+json"
_PLACES: Final = ("/metrics", "/health", "/ready", "/status")


async def serve(
    bind: str,
    metrics: Metrics,
    health: Health,
    status: Callable[[], JSON] = dict,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Answer until cancelled. Started, with the address that is listened on, once clients can connect.

    Args:
        bind: "host:port", port 0 for a free one.
        metrics: rendered for each scrape, in this thread.
        health: answers for /health and /ready; 200 or 503.
        status: gives the document of /status, which is always 200.
        task_status: is given "host:port".

    Raises:
        OSError: the address cannot be listened on; in words.

    """
    listeners = await _listen(bind)
    address = _address(listeners[0])
    config = Config()
    # Hypercorn takes over the sockets; its own binding would resolve names without yielding.
    config.bind = [f"fd://{listener.socket.detach()}" for listener in listeners]
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    config.keep_alive_timeout = SILENCE_SECONDS
    config.read_timeout = SILENCE_SECONDS
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(hypercorn_serve, _App(Exposition(metrics), health, status), config, mode="asgi"))
        task_status.started(address)
    raise AssertionError("hypercorn returned without being asked to")


async def _listen(bind: str) -> list[trio.SocketListener]:
    host, _, port = bind.rpartition(":")
    try:
        listeners = await trio.open_tcp_listeners(int(port), host=host.strip("[]") or None)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {bind} for metrics: {error.strerror or error}") from error
    for listener in listeners:
        # Hypercorn's writes are not cancellable. The kernel ends a connection whose peer takes nothing.
        listener.socket.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_USER_TIMEOUT, STALL_SECONDS * 1000)
    return listeners


def _address(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _App:
    # An ASGI application that waits for nothing but its own answer being sent.
    def __init__(self, exposition: Exposition, health: Health, status: Callable[[], JSON]) -> None:
        self._exposition = exposition
        self._health = health
        self._status = status

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            await self._answer(scope, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": None})
        elif scope["type"] == "lifespan":
            await _live(receive, send)

    async def _answer(self, scope: HTTPScope, send: ASGISendCallable) -> None:
        status, kind, body = self._page(scope["method"], scope["path"])
        headers = [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {
                "type": "http.response.body",
                "body": b"" if scope["method"] == "HEAD" else body,
                "more_body": False,
            }
        )

    def _page(self, method: str, path: str) -> tuple[int, bytes, bytes]:
        if path not in _PLACES:
            return 404, _PROBLEM, _problem(404, "Not Found", f"there are {', '.join(_PLACES)}")
        if method not in {"GET", "HEAD"}:
            return 405, _PROBLEM, _problem(405, "Method Not Allowed", "only GET and HEAD")
        if path == "/metrics":
            return 200, CONTENT_TYPE.encode(), self._exposition.render()
        if path == "/status":
            return 200, _JSON, encode_line(self._status())
        ok, document = self._health.live() if path == "/health" else self._health.ready()
        return 200 if ok else 503, _JSON, encode_line(document)


def _problem(status: int, title: str, detail: str) -> bytes:
    return orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail})


async def _live(receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
