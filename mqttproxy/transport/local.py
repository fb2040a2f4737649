"""A UNIX socket in a folder of ours, for commands on the same machine: one request, one answer.

Who may open the socket is the kernel's to decide, by the mode of the file (0600). Paths of sockets are bounded to
some 100 bytes, so they are named through the descriptor of their folder.
"""

import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import trio
from attrs import frozen

from mqttproxy.transport.stream import TransportError, words

CONTROL: Final = "control.sock"  # in the data folder: what commands ask a running proxy through
AT_ONCE: Final = 8  # connections; more wait
BACKLOG: Final = 64  # of those, with the kernel
REQUEST_SECONDS: Final = 10.0  # for the whole of a request to come
LARGEST: Final = 20 * 1024 * 1024  # bytes of a request or an answer
CONNECT_SECONDS: Final = 5.0
_CREDENTIALS: Final = struct.Struct("3i")


@frozen
class Caller:
    """Who is at the other end, as the kernel knows it."""

    process: int
    user: int

    def __str__(self) -> str:
        """Return it as the audit trail has it."""
        return f"user {self.user}, process {self.process}"


Handle = Callable[[bytes, Caller], Awaitable[bytes]]


@contextmanager
def _in_folder(directory: Path, name: str) -> Iterator[str]:
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)


def bind_local(directory: Path, name: str) -> socket.socket:
    """Listen at a name in a folder that is this process's alone.

    Raises:
        TransportError: the file system has no sockets, or the folder cannot be written.

    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _in_folder(directory, name) as path:
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 # of the process before us, which was killed
            os.fchmod(sock.fileno(), 0o600)  # the file will have this mode from its first moment
            sock.bind(path)
            os.chmod(path, 0o600)  # noqa: PTH101
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise TransportError(f"{directory / name}: {words(error)}") from error
    return sock


async def serve_local(sock: socket.socket, handle: Handle) -> None:
    """Answer until cancelled, then close. What one caller does or does not do is nothing to the others."""
    listener = trio.socket.from_stdlib_socket(sock)
    limiter = trio.CapacityLimiter(AT_ONCE)
    with listener:
        async with trio.open_nursery() as nursery:
            while True:
                await limiter.acquire_on_behalf_of(token := object())
                connection, _ = await listener.accept()
                nursery.start_soon(_serve, connection, handle, limiter, token)


async def _receive(connection: trio.socket.SocketType) -> bytes:
    """Return a request; empty: it did not come whole."""
    request = bytearray()
    while not request.endswith(b"\n"):
        data = await connection.recv(64 * 1024)
        if not data or len(request) > LARGEST:
            return b""
        request += data
    return bytes(request)


async def _serve(
    connection: trio.socket.SocketType, handle: Handle, limiter: trio.CapacityLimiter, token: object
) -> None:
    request = b""
    with connection, suppress(OSError):  # the caller has gone; what it asked for was done
        with trio.move_on_after(REQUEST_SECONDS):
            request = await _receive(connection)
            if request:
                credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
                process, user, _ = _CREDENTIALS.unpack(credentials)
        if request:
            answer = memoryview(await handle(request, Caller(process, user)) + b"\n")
            with trio.move_on_after(REQUEST_SECONDS):
                while answer:
                    answer = answer[await connection.send(answer) :]
    limiter.release_on_behalf_of(token)


def ask_local(directory: Path, name: str, request: bytes) -> bytes:
    """Send one request, wait for its answer however long it takes, and return it. For commands; blocks.

    Raises:
        TransportError: nobody listens there, or it ended without an answer.

    """
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            with _in_folder(directory, name) as path:
                sock.settimeout(CONNECT_SECONDS)
                sock.connect(path)
            sock.sendall(request + b"\n")
            sock.settimeout(None)
            while not answer.endswith(b"\n") and len(answer) <= LARGEST and (data := sock.recv(64 * 1024)):
                answer += data
    except OSError as error:
        raise TransportError(words(error)) from error
    if not answer.endswith(b"\n"):
        raise TransportError("it ended before it had answered")
    return bytes(answer)
