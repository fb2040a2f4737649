"""Two ends of one real connection, for the tests of this room."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import trio

from mqttproxy.config.model import ListenerSettings
from mqttproxy.transport.listen import Listener, listen
from mqttproxy.transport.stream import ByteStream, TransportError
from mqttproxy.transport.tcp import TcpStream
from mqttproxy.transport.tls import TlsStream

End = TypeVar("End")


async def meet(settings: ListenerSettings, connect: Callable[[int], Awaitable[End]]) -> tuple[End, ByteStream]:
    """Listen, connect by `connect(port)`, and return both ends: (the connecting one, the listener's)."""
    listener = await listen(settings)
    ends: dict[str, ByteStream] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_accept, listener, ends)
        device = await connect(listener.port)
    listener.close()
    return device, ends["ours"]


async def outcome(settings: ListenerSettings, connect: Callable[[int], Awaitable[object]]) -> TransportError | None:
    """Listen, let `connect(port)` try, whatever it meets, and return what the listener's handshake raised."""
    listener = await listen(settings)
    raised: list[TransportError] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_refuse, listener, raised, nursery.cancel_scope)
        await _try(connect, listener.port)
        await trio.sleep_forever()
    listener.close()
    return raised[0] if raised else None


async def read_exactly(stream: ByteStream, count: int) -> bytes:
    """Receive until `count` bytes are there, or the end."""
    data = bytearray()
    while len(data) < count and (more := await stream.receive()):
        data += more
    return bytes(data)


async def _accept(listener: Listener, ends: dict[str, ByteStream]) -> None:
    ends["ours"] = await listener.handshake(await listener.accept())


async def _refuse(listener: Listener, raised: list[TransportError], scope: trio.CancelScope) -> None:
    try:
        stream = await listener.handshake(await listener.accept())
    except TransportError as error:
        raised.append(error)
    else:
        stream.abort()
    scope.cancel()


async def _try(connect: Callable[[int], Awaitable[object]], port: int) -> None:
    with suppress(OSError, trio.BrokenResourceError):
        stream = await connect(port)
        if isinstance(stream, (TcpStream, TlsStream)):
            try:
                await stream.receive()
            finally:
                stream.abort()
