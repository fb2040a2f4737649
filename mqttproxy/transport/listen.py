"""Where connections come in: a bound socket, and the handshakes of its transport."""

import errno
import socket
import ssl
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from mqttproxy.config.model import ListenerSettings
from mqttproxy.transport.proxy_header import ProxyHeaderError, header_size, parse_header
from mqttproxy.transport.revoked import Revoked, read_revoked
from mqttproxy.transport.stream import MAX_FRAME_BYTES, ByteStream, Peer, TransportError, words
from mqttproxy.transport.tcp import WRITE_TIMEOUT, TcpStream
from mqttproxy.transport.tls import TlsStream, server_context

if TYPE_CHECKING:  # see `_websocket` for the real import
    from mqttproxy.transport.websocket import WebSocketStream

BACKLOG: Final = 4096  # connections the kernel holds for us, if it may: a SYN that finds no room comes again after 1 s
AT_ONCE: Final = 256  # accepted before others have their turn: some ms; who is accepted late is served late
ACCEPT_PAUSE: Final = 0.1  # seconds, when the process or the machine has run out of something

# Out of descriptors or memory: trying again at once would only burn the processor.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class BadIntroductionError(TransportError):
    """What should be a load balancer sends no PROXY header, or none that can be read."""


@frozen
class Terms:
    """What a listener's settings ask of a connection before MQTT.

    Attributes:
        context: for TLS.
        websocket: for WebSocket.
        balancers: whose PROXY headers are believed.
        revoked: certificates whose devices may not come in, or stay; None: there is no such list.

    """

    context: ssl.SSLContext | None
    websocket: "type[WebSocketStream] | None"
    balancers: tuple[IPv4Network | IPv6Network, ...] = ()
    revoked: Revoked | None = None


class Listener:
    """A bound socket of one `[[listeners]]`. One task calls accept() in a loop; handshakes run each in its own."""

    def __init__(
        self,
        sock: socket.socket,
        settings: ListenerSettings,
        terms: Terms,
        *,
        write_timeout: float,
        max_frame_bytes: int,
        trouble: Callable[[OSError], None] | None,
        hung_up: Callable[[], None] | None,
    ) -> None:
        self.settings = settings
        self.host, self.port = sock.getsockname()[:2]
        self._socket = sock
        self._terms = terms
        self._write_timeout = write_timeout
        self._max_frame_bytes = max_frame_bytes
        self._trouble = trouble
        self._hung_up = hung_up
        self._in_a_row = 0  # accepted since others had their turn

    def __str__(self) -> str:
        """Return where it listens, such as "tcp://127.0.0.1:1883"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.settings.transport}://{host}:{self.port}"

    async def accept(self) -> TcpStream:
        """Wait for a connection, and go on waiting whatever goes wrong with one.

        Raises:
            trio.ClosedResourceError: close() was called.

        """
        while True:
            if not self._in_a_row % AT_ONCE:
                await trio.lowlevel.wait_readable(self._socket)
            self._in_a_row += 1
            try:
                sock, address = self._socket.accept()
            except BlockingIOError:
                self._in_a_row = 0
                continue
            except OSError as error:
                self._in_a_row = 0
                if self._socket.fileno() == -1:
                    raise trio.ClosedResourceError from None
                if self._trouble is not None:
                    self._trouble(error)
                if error.errno in EXHAUSTED:
                    await trio.sleep(ACCEPT_PAUSE)
                continue  # ECONNABORTED and its kind concern only the connection that is gone
            if _is_gone(sock):
                sock.close()
                if self._hung_up is not None:
                    self._hung_up()
                continue
            host = address[0].removeprefix("::ffff:")
            return TcpStream(sock, Peer(host, address[1]), write_timeout=self._write_timeout)

    @property
    def is_behind_balancers(self) -> bool:
        """Whether who is there is said by a PROXY header: see `introduce`."""
        return bool(self._terms.balancers)

    @property
    def revoked(self) -> Revoked | None:
        """Certificates whose devices may not come in. Of those that its own handshakes see, OpenSSL knows."""
        return self._terms.revoked

    def believes(self, host: str) -> bool:
        """Tell whether an address is that of a load balancer."""
        address = ip_address(host)
        return any(address in network for network in self._terms.balancers)

    async def introduce(self, raw: TcpStream) -> bool:
        """Read the PROXY header of a connection, before its handshake, so that its peer is the client from then on.

        Returns:
            False: it was closed without a word, as load balancers do to see whether we live.

        Raises:
            BadIntroductionError: there is no header that can be read, or not in time.
            TransportError: the connection broke.

        """
        settings = self.settings.proxy_protocol
        if not self.believes(raw.peer.host):  # a reload came in between
            raise BadIntroductionError(f"{raw.peer}: PROXY header: not from a load balancer")
        try:
            with trio.fail_after(settings.header_timeout):
                head = await raw.receive_head(partial(header_size, longest=settings.header_bytes))
            if head:
                raw.peer = raw.peer.introduced(parse_header(head))
        except ProxyHeaderError as error:
            raise BadIntroductionError(f"{raw.peer}: PROXY header: {error}") from error
        except trio.TooSlowError:
            raise BadIntroductionError(f"{raw.peer}: no PROXY header within {settings.header_timeout:g} s") from None
        return bool(head)

    async def handshake(self, raw: TcpStream) -> ByteStream:
        """Make of an accepted connection what the transport says. The caller gives the deadline.

        If it raises, or is cancelled, the connection is closed.

        Raises:
            TransportError: the peer does not speak this transport, or may not come in.

        """
        try:
            return await self._shake_hands(raw)
        except TransportError:
            await raw.aclose()  # in order: the alert or HTTP status must reach the peer
            raise
        except BaseException:
            raw.abort()
            raise

    def use(self, settings: ListenerSettings, terms: Terms) -> None:
        """Go on under other settings, for the same address. Connections accepted before live on as they are."""
        self.settings, self._terms = settings, terms

    def close(self) -> None:
        """Accept no more. Connections accepted before live on."""
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    async def _shake_hands(self, raw: TcpStream) -> ByteStream:
        stream: ByteStream = raw
        terms, settings = self._terms, self.settings  # as they are now, though a reload may come in between
        if terms.context is not None:
            stream = await TlsStream.accept(stream, terms.context)
        if terms.websocket is not None:
            stream = await terms.websocket.accept(
                stream, path=settings.path, origins=settings.origins, max_frame_bytes=self._max_frame_bytes
            )
        return stream


async def listen(
    settings: ListenerSettings,
    *,
    write_timeout: float = WRITE_TIMEOUT,
    max_frame_bytes: int = MAX_FRAME_BYTES,
    trouble: Callable[[OSError], None] | None = None,
    hung_up: Callable[[], None] | None = None,
) -> Listener:
    """Bind and listen as the settings say.

    Args:
        settings: of the listener; a name in `bind` that has several addresses is bound at its first, IPv4 before IPv6.
        write_timeout: seconds, for its connections.
        max_frame_bytes: largest WebSocket frame taken.
        trouble: called in accept() with each error that kept a connection out; counts, must not wait.
        hung_up: the same for each peer that was gone before it was accepted, and had sent nothing.

    Raises:
        TransportError: the address cannot be bound, or a certificate not be loaded.

    """
    terms = load_terms(settings)
    try:
        sock = await _bind(settings.bind)
    except OSError as error:
        raise TransportError(f"listener {settings.name!r}: {settings.bind}: {words(error)}") from error
    return Listener(
        sock,
        settings,
        terms,
        write_timeout=write_timeout,
        max_frame_bytes=max_frame_bytes,
        trouble=trouble,
        hung_up=hung_up,
    )


def _is_gone(sock: socket.socket) -> bool:
    """Tell whether a peer has hung up and left nothing to read. Thousands may in a second: that is to cost little."""
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def load_terms(settings: ListenerSettings) -> Terms:
    """Read the certificates that a listener's settings name.

    Raises:
        TransportError: one cannot be loaded.

    """
    balancers = tuple(ip_network(network) for network in settings.proxy_protocol.from_)
    return Terms(_context(settings), _websocket(settings), balancers, _revoked(settings))


def _context(settings: ListenerSettings) -> ssl.SSLContext | None:
    if settings.transport not in ("tls", "wss"):
        return None
    if settings.certificate is None or settings.private_key is None:
        raise TransportError(f"listener {settings.name!r}: {settings.transport} needs certificate and private_key")
    try:
        return server_context(
            settings.certificate,
            settings.private_key,
            client_ca=settings.client_ca,
            client_certificate=settings.client_certificate,
            crl=settings.crl,
            minimum=settings.tls_minimum,
        )
    except TransportError as error:
        raise TransportError(f"listener {settings.name!r}: {error}") from error


def _revoked(settings: ListenerSettings) -> Revoked | None:
    if settings.crl is None:
        return None
    try:
        return read_revoked(settings.crl)
    except TransportError as error:
        raise TransportError(f"listener {settings.name!r}: {error}") from error


def _websocket(settings: ListenerSettings) -> "type[WebSocketStream] | None":
    if settings.transport not in ("ws", "wss"):
        return None
    from mqttproxy.transport.websocket import WebSocketStream  # noqa: PLC0415 - more than 1 MB that TCP does not need

    return WebSocketStream


async def _bind(address: str) -> socket.socket:
    host, port = split_address(address)
    found = await trio.socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    family, kind, protocol, _, where = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # [::] takes IPv4 too, whatever the machine's default is
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(where)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "host:port"; an IPv6 address stands in brackets.

    Raises:
        TransportError: it is not of that form.

    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise TransportError(f"{address!r}: write an IPv6 address in brackets")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise TransportError(f"{address!r}: not host:port")
    return host, int(port)
