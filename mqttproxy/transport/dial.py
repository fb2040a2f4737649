"""Connecting to a broker: name look-up, TCP, TLS, WebSocket, as the URL says."""

import os
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import trio
from attrs import frozen

from mqttproxy.transport.stream import MAX_FRAME_BYTES, ByteStream, Peer, TransportError, words
from mqttproxy.transport.tcp import WRITE_TIMEOUT, TcpStream
from mqttproxy.transport.tls import TlsStream, client_context

# scheme: (TLS, WebSocket, default port)
SCHEMES: Final = {
    "mqtt": (False, False, 1883),
    "tcp": (False, False, 1883),
    "mqtts": (True, False, 8883),
    "tls": (True, False, 8883),
    "ws": (False, True, 80),
    "wss": (True, True, 443),
}


@frozen
class Target:
    """What a URL says. `resource` is path and query, for WebSocket."""

    scheme: str
    host: str
    port: int
    resource: str

    def __str__(self) -> str:
        """Return scheme, host and port."""
        return f"{self.scheme}://{Peer(self.host, self.port)}"


async def dial(
    url: str,
    *,
    ca: Path | None = None,
    certificate: Path | None = None,
    private_key: Path | None = None,
    insecure_skip_verify: bool = False,
    write_timeout: float = WRITE_TIMEOUT,
    max_frame_bytes: int = MAX_FRAME_BYTES,
) -> ByteStream:
    """Connect to the broker at `url`. The caller gives the deadline for all of it.

    Raises:
        TransportError: which host and port, and what failed.

    """
    target = parse_url(url)
    tls, websocket, _ = SCHEMES[target.scheme]
    context = None
    if tls:
        context = client_context(
            ca=ca, certificate=certificate, private_key=private_key, insecure_skip_verify=insecure_skip_verify
        )
    raw = await _connect(target, write_timeout)
    stream: ByteStream = raw
    try:
        if context is not None:
            stream = await TlsStream.connect(stream, context, target.host)
        if websocket:
            stream = await _websocket(stream, target, max_frame_bytes)
    except TransportError as error:
        await raw.aclose()
        raise TransportError(f"{target}: {error}") from error
    except BaseException:
        raw.abort()
        raise
    return stream


async def _websocket(stream: ByteStream, target: Target, max_frame_bytes: int) -> ByteStream:
    from websockets.uri import WebSocketURI  # noqa: PLC0415 - more than 1 MB that other URLs do not need

    from mqttproxy.transport.websocket import WebSocketStream  # noqa: PLC0415 - the same

    uri = WebSocketURI(SCHEMES[target.scheme][0], target.host, target.port, target.resource, "")
    return await WebSocketStream.connect(stream, uri, max_frame_bytes=max_frame_bytes)


def parse_url(url: str) -> Target:
    """Take a URL apart.

    Raises:
        TransportError: unknown scheme, no host, or no valid port.

    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TransportError(f"{url!r}: {error}") from error
    if parts.scheme not in SCHEMES:
        raise TransportError(f"{url!r}: scheme must be one of {', '.join(SCHEMES)}")
    if not parts.hostname:
        raise TransportError(f"{url!r}: no host")
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname, SCHEMES[parts.scheme][2] if port is None else port, resource)


async def _connect(target: Target, write_timeout: float) -> TcpStream:
    try:
        connected = await trio.open_tcp_stream(target.host, target.port)
    except OSError as error:
        raise TransportError(f"{target}: {_connect_words(error)}") from error
    except RuntimeError as error:  # no thread could be started to resolve its name in
        raise TransportError(f"{target}: {error}") from error
    # Trio races the addresses (RFC 8305); from here on the socket is ours alone.
    sock = socket.socket(fileno=connected.socket.detach())
    try:
        host, port = sock.getpeername()[:2]
    except OSError as error:
        sock.close()
        raise TransportError(f"{target}: {words(error)}") from error
    return TcpStream(sock, Peer(host, port), write_timeout=write_timeout)


def _connect_words(error: OSError) -> str:
    # With several addresses, the cause is the group of what each of them said.
    group = error.__cause__
    each = group.exceptions if isinstance(group, BaseExceptionGroup) else [error]
    return "; ".join({_bare_words(one): None for one in each if isinstance(one, OSError)})


def _bare_words(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno is None:
        return words(error)
    return words(OSError(error.errno, os.strerror(error.errno)))  # trio writes the address, which we have said
