"""What the other rooms see of a connection: bytes in, bytes out, who is there, and how it ends."""

from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol

import trio
from attrs import evolve, field, frozen

from mqttproxy.transport.proxy_header import ProxyHeader

RECEIVE_BYTES: Final = 64 * 1024  # most that one receive() gives
MAX_FRAME_BYTES: Final = 1024 * 1024  # a larger WebSocket frame is refused from its declared length

Transport = Literal["tcp", "tls", "ws", "wss"]
Spawn = Callable[[Callable[[], Awaitable[None]]], object]  # `nursery.start_soon`
Take = Callable[[bytes | memoryview, float], bool]  # what arrived, and when: monotonic seconds


class TransportError(OSError):
    """What the world can do to a connection: cut it, refuse it, stall it, not speak TLS or WebSocket.

    `str()` says it in words for a person, with the peer's bytes escaped and cut short.
    """


@frozen
class Introduction:
    """What a load balancer said of a connection that it passed on, by a PROXY header. `by`: its own address."""

    by: str
    header: ProxyHeader


@frozen
class Peer:
    """Who is at the other end, behind a load balancer that is believed too: the client then, not the balancer.

    Attributes:
        host: IP address in text; an IPv4 address that came in over IPv6 is written as IPv4.
        port: the peer's port.
        transport: how bytes travel to us.
        certificate: subject of the verified certificate, as in "CN=device-7,O=Acme"; None if none was verified, or a
            load balancer that has verified it did not say its common name.
        der: the verified certificate itself; None: none was, or the load balancer that has did not pass it on.
        introduction: of the load balancer; None: there is none.

    """

    host: str
    port: int
    transport: Transport = "tcp"
    certificate: str | None = None
    der: bytes | None = field(default=None, repr=False, eq=False)
    introduction: Introduction | None = None

    def __str__(self) -> str:
        """Return "host:port", with IPv6 addresses in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def shows_no_more(self) -> bool:
        """Whether a certificate that comes from here on is the load balancer's own, and not the client's."""
        return self.introduction is not None and self.introduction.header.tls is not None

    @property
    def is_the_balancer(self) -> bool:
        """Whether a load balancer has connected for itself, to see whether we live."""
        return self.introduction is not None and self.introduction.header.source is None

    @property
    def told_name(self) -> str | None:
        """Common name of a certificate that a load balancer has verified and told no more of; None: there is none."""
        tls = None if self.introduction is None else self.introduction.header.tls
        return None if tls is None or tls.certificate else tls.common_name

    @property
    def shows_certificate(self) -> bool:
        """Whether the client has shown one that was verified, which the load balancer may not have passed on."""
        tls = None if self.introduction is None else self.introduction.header.tls
        return self.der is not None or (tls is not None and tls.is_verified)

    def introduced(self, header: ProxyHeader) -> "Peer":
        """Return who is there by what a load balancer says; it stays itself where it speaks for itself."""
        host, port = header.source or (self.host, self.port)
        tls = header.tls
        return evolve(
            self,
            host=host,
            port=port,
            certificate=None if tls is None or tls.common_name is None else f"CN={escaped(tls.common_name)}",
            der=None if tls is None else tls.certificate or None,
            introduction=Introduction(str(self), header),
        )


class ByteStream(Protocol):
    """A connection as both sides of the proxy use it. One task receives; anyone may send, without waiting.

    What `send_nowait` cannot place is written in the background, in one of two ways that the owner chooses:
    a task of its own that runs `run()`, or `flush_with(nursery.start_soon)`, which starts one only when the
    peer falls behind, so that an idle connection costs no task.
    """

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""

    @property
    def unsent(self) -> int:
        """Bytes taken by send_nowait and not yet given to the kernel."""

    async def receive(self) -> bytes | memoryview:
        """Wait for bytes and return all that is there, at most about 64 KiB; b"" means the peer is gone.

        A memoryview lies in a buffer shared by all connections: it is valid until the next await.
        After an own abort() or aclose() it returns b"", too.

        Raises:
            TransportError: the connection broke, or the peer does not speak the protocol of this transport.

        """

    async def receive_each(self, take: Take) -> bool:
        """Hand all that arrives to `take`, as `receive` would return it, until it returns False or the peer is gone.

        Quicker than a loop over `receive` where a connection can be handed over without waking its task.

        Args:
            take: is given the bytes and when they were read, and must not wait. Returning False ends this call, so that
                the caller can wait for what it must.

        Returns:
            True: `take` has returned False. False: the peer is gone.

        Raises:
            TransportError: as for receive().
            Exception: whatever `take` raised.

        """

    def interrupt(self) -> None:
        """End a `receive_each` that waits, as if its `take` had returned False.

        It is needed only where `take` is called by the poller: streams that wait for themselves do nothing.
        """

    def tell_hangup(self, call: Callable[[bool], None] | None) -> None:
        """While nobody receives, call it when the peer hangs up, in which nothing is read; None: no more.

        To be ended before the next receive. It is called once, with True if bytes are there that can still be read.
        Where the process runs no poller it is never called.
        """

    def send_nowait(self, data: bytes | bytearray) -> None:
        """Take all of data, and give the kernel at once what it has room for. The caller watches `unsent`.

        It never raises: a broken connection swallows the bytes, and receive() and run() tell the failure.
        """

    async def run(self) -> None:
        """Write what send_nowait could not place, until cancelled or the connection is closed.

        Raises:
            TransportError: the connection broke, or the peer took no byte for the write timeout.

        """

    def flush_with(self, spawn: Spawn) -> None:
        """Instead of run(): start a task by `spawn` whenever there is something to write; it ends when it is done.

        The task never raises: receive() tells the failure. The nursery behind `spawn` must outlive the stream.
        """

    async def wait_drained(self, below: int = 0) -> None:
        """Wait until `unsent <= below`. It works with or without a background writer.

        Raises:
            TransportError: as for run().

        """

    async def aclose(self) -> None:
        """Write what is unsent, say goodbye (close_notify, close frame, FIN), close. Never raises.

        It takes at most CLOSE_TIMEOUT even if cancelled; nothing to write and the peer gone: no time at all.
        """

    def abort(self) -> None:
        """Close at once; the peer sees a reset. Never raises; harmless after aclose()."""


async def receive_each(stream: ByteStream, take: Take) -> bool:
    """Do what `ByteStream.receive_each` says by a loop over `receive`."""
    while data := await stream.receive():
        if not take(data, trio.current_time()):
            return True
    return False


def escaped(value: str) -> str:
    """Return a value of a subject as RFC 4514 writes it, in characters that can be shown."""
    return "".join(
        f"\\{character}"
        if character in ',+"\\<>;='
        else character
        if character.isprintable()
        else repr(character)[1:-1]
        for character in value
    )


def words(error: OSError) -> str:
    """Say an operating system's error in lower case words, without its number."""
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:] if not text[:2].isupper() else text
