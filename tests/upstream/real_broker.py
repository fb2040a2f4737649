"""The broker of these tests on real sockets, with TLS if wanted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from mqttproxy.config.model import Address, ListenerSettings
from mqttproxy.mqtt.server import ServerConnection
from mqttproxy.transport.listen import Listener, listen
from mqttproxy.transport.stream import TransportError
from tests.upstream.broker import FakeBroker, Line


@asynccontextmanager
async def real_broker(
    certificate: Path | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[tuple[FakeBroker, int]]:
    """Serve, on a free port by default; `certificate`: file with key and chain, read once."""
    listener = await listen(
        ListenerSettings(
            name="broker",
            transport="tls" if certificate else "tcp",
            bind=Address(f"{host}:{port}"),
            certificate=certificate,
            private_key=certificate,
        )
    )
    async with trio.open_nursery() as nursery:
        broker = FakeBroker(nursery)
        nursery.start_soon(_serve, listener, broker)
        try:
            yield broker, listener.port
        finally:
            listener.close()
            nursery.cancel_scope.cancel()


async def _serve(listener: Listener, broker: FakeBroker) -> None:
    while True:
        try:
            stream = await listener.handshake(await listener.accept())
        except TransportError:
            continue
        except trio.ClosedResourceError:
            return
        line = Line(stream, stream, ServerConnection(broker.limits, trio.current_time()))  # type: ignore[arg-type]
        broker.lines.append(line)
        broker._nursery.start_soon(broker._serve, line)
