"""TLS: contexts of both sides, and the layer over another stream.

The standard library's `ssl` does the cryptography between two buffers in memory (`ssl.MemoryBIO`), and `TcpStream`
does all the waiting. So sending needs no task or lock of its own, and `unsent` is exact. trio.SSLStream was measured
beside it: see docs/decisions/0003-websockets-sans-io.md.
"""

import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, cast

from attrs import evolve

from mqttproxy.transport.stream import ByteStream, Peer, Spawn, Take, TransportError, escaped, receive_each, words

# Of TLS 1.2, what has forward secrecy and no known weakness; all suites of TLS 1.3 are like that. Level 2 of OpenSSL
# refuses keys and signatures of less than 112 bits, as RSA of 1024 bits and SHA-1.
SUITES: Final = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"
RECORD_BYTES: Final = 16 * 1024  # largest TLS record
_BUFFER: Final = memoryview(
    bytearray(RECORD_BYTES * 6)
)  # shared as TCP's is: one read of TCP and a record begun before
_SHORT_NAMES: Final = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
}


def server_context(
    certificate: Path,
    private_key: Path,
    *,
    client_ca: Path | None = None,
    client_certificate: Literal["none", "optional", "required"] = "none",
    crl: Path | None = None,
    minimum: Literal["1.2", "1.3"] = "1.2",
) -> ssl.SSLContext:
    """Load what a TLS listener needs.

    Raises:
        TransportError: a file is missing, is not PEM, or certificate and key do not belong together.

    """
    context = _restricted(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.set_ciphers(SUITES)
    context.num_tickets = 1  # a device has one connection; a second ticket is for browsers, and costs 70 µs
    if minimum == "1.3":
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load_chain(context, certificate, private_key)
    if client_certificate != "none":
        if client_ca is None:
            raise TransportError(f'client_certificate = "{client_certificate}" needs client_ca')
        context.verify_mode = ssl.CERT_REQUIRED if client_certificate == "required" else ssl.CERT_OPTIONAL
        _load_ca(context, client_ca)
        if crl is not None:
            _load_crl(context, crl)
    return context


def client_context(
    *,
    ca: Path | None = None,
    certificate: Path | None = None,
    private_key: Path | None = None,
    insecure_skip_verify: bool = False,
) -> ssl.SSLContext:
    """Load what a TLS connection to a broker needs; without `ca` the system's CAs are trusted.

    Raises:
        TransportError: as for server_context.

    """
    context = _restricted(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    if insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs()
    else:
        _load_ca(context, ca)
    if certificate is not None:
        _load_chain(context, certificate, private_key)
    return context


class TlsStream:
    """TLS over another stream, after a handshake."""

    __slots__ = ("_early", "_ended", "_incoming", "_inner", "_outgoing", "_tls", "peer")

    def __init__(self, inner: ByteStream, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self.peer: Peer = inner.peer
        self._inner = inner
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self._early = b""  # came in one read with the end of the handshake
        self._ended = False

    @property
    def unsent(self) -> int:
        """Bytes, encrypted, that wait for the kernel."""
        return self._inner.unsent

    @classmethod
    async def accept(cls, inner: ByteStream, context: ssl.SSLContext) -> "TlsStream":
        """Shake hands as a server. The caller gives the deadline, and closes `inner` if this raises.

        Raises:
            TransportError: the peer does not speak TLS 1.2 or 1.3, or its certificate is missing or not trusted.

        """
        stream = cls(inner, context, None)
        await stream._receive_flight()  # there is nothing to compute before
        await stream._handshake()
        return stream

    @classmethod
    async def connect(cls, inner: ByteStream, context: ssl.SSLContext, host: str) -> "TlsStream":
        """Shake hands as a client that wants `host`. The caller gives the deadline, and closes `inner` if this raises.

        Raises:
            TransportError: the server does not speak TLS 1.2 or 1.3, or its certificate is not trusted or not for host.

        """
        try:
            stream = cls(inner, context, host)
        except ValueError as error:  # such as a host name that begins with a dot
            raise TransportError(f"TLS: {host!r} cannot be verified: {error}") from error
        await stream._handshake()
        return stream

    async def receive(self) -> bytes | memoryview:
        """Wait for bytes and return all that can be decrypted; b"": the peer is gone, with close_notify or without."""
        if self._early:
            early, self._early = self._early, b""
            return early
        while not self._ended:
            encrypted = await self._inner.receive()
            if not encrypted:
                self._ended = True
                break
            self._incoming.write(encrypted)
            if count := self._decrypt():
                return _BUFFER[:count]
        return b""

    async def receive_each(self, take: Take) -> bool:
        """Hand all that arrives to `take`, until it returns False or the peer is gone."""
        return await receive_each(self, take)

    def interrupt(self) -> None:
        """Do nothing: this stream waits for itself."""

    def tell_hangup(self, call: Callable[[bool], None] | None) -> None:
        """Tell when the peer hangs up while nobody receives."""
        self._inner.tell_hangup(call)

    def send_nowait(self, data: bytes | bytearray) -> None:
        """Encrypt all of data into as few records as it takes and hand them on."""
        try:
            self._tls.write(data)
        except ssl.SSLError:
            return  # closing already, or broken, which receive() tells
        self._inner.send_nowait(self._outgoing.read())

    async def run(self) -> None:
        """Write what could not be sent at once."""
        await self._inner.run()

    def flush_with(self, spawn: Spawn) -> None:
        """Start a writer by `spawn` when needed."""
        self._inner.flush_with(spawn)

    async def wait_drained(self, below: int = 0) -> None:
        """Wait until `unsent <= below`."""
        await self._inner.wait_drained(below)

    async def aclose(self) -> None:
        """Send close_notify and close in order."""
        # The answer to close_notify is not waited for, and a broken session has none to send.
        with suppress(ssl.SSLError, ValueError):
            self._tls.unwrap()
        self._inner.send_nowait(self._outgoing.read())
        await self._inner.aclose()

    def abort(self) -> None:
        """Close at once."""
        self._inner.abort()

    async def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._inner.send_nowait(self._outgoing.read())
                await self._receive_flight()
            except ssl.SSLError as error:
                self._inner.send_nowait(self._outgoing.read())  # the alert that tells the peer
                raise TransportError(f"{self.peer}: TLS handshake: {_tls_words(error)}") from error
            else:
                break
        self._inner.send_nowait(self._outgoing.read())
        await self._inner.wait_drained()
        self.peer = evolve(self.peer, transport="tls")
        if not self.peer.shows_no_more:
            subject = _subject(self._tls)
            der = None if subject is None else self._tls.getpeercert(binary_form=True)
            self.peer = evolve(self.peer, certificate=subject, der=der)
        self._early = bytes(_BUFFER[: self._decrypt()])

    async def _receive_flight(self) -> None:
        data = await self._inner.receive()
        if not data:
            raise TransportError(f"{self.peer}: hung up during the TLS handshake")
        self._incoming.write(data)

    def _decrypt(self) -> int:
        # Gathers every whole record of one read, so that a batch stays a batch. One step of TCP's size and what
        # was left of a record before it always fit.
        count = 0
        try:
            while self._incoming.pending or self._tls.pending():
                # typeshed does not know that with a buffer it returns how much it wrote there
                size = cast("int", self._tls.read(RECORD_BYTES, _BUFFER[count:]))
                if size == 0:  # close_notify
                    self._ended = True
                    break
                count += size
        except ssl.SSLWantReadError:
            pass  # the rest of a record is still under way
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            self._inner.send_nowait(self._outgoing.read())
            raise TransportError(f"{self.peer}: TLS: {_tls_words(error)}") from error
        if self._outgoing.pending:  # a key update or an alert
            self._inner.send_nowait(self._outgoing.read())
        return count


def _restricted(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _load_chain(context: ssl.SSLContext, certificate: Path, private_key: Path | None) -> None:
    try:
        # The empty password: OpenSSL would else ask for one on the terminal.
        context.load_cert_chain(certificate, private_key, password="")
    except (OSError, ValueError) as error:
        names = " and ".join(str(path) for path in (certificate, private_key) if path is not None)
        raise TransportError(f"certificate {names}: {_load_words(error)}") from error


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise TransportError(f"CA {ca}: {_load_words(error)}") from error


def _load_crl(context: ssl.SSLContext, crl: Path) -> None:
    """Have certificates looked up in a list. From then on one whose issuer has no list that is valid is refused."""
    before = context.cert_store_stats()
    try:
        context.load_verify_locations(crl)
    except (OSError, ValueError) as error:
        raise TransportError(f"CRL {crl}: {_load_words(error)}") from error
    after = context.cert_store_stats()
    if after["crl"] == before["crl"]:
        raise TransportError(f"CRL {crl}: no revocation list in PEM")
    if after["x509"] != before["x509"]:  # it would be trusted from now on
        raise TransportError(f"CRL {crl}: holds certificates too")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _load_words(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return _tls_words(error)
    return words(error) if isinstance(error, OSError) else str(error)


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {error.verify_message}"
    return (error.reason or str(error)).lower().replace("_", " ").replace("[ssl] ", "")


def _subject(tls: ssl.SSLObject) -> str | None:
    """Return the subject of the peer's verified certificate as in RFC 4514, first part first."""
    certificate = tls.getpeercert()
    if not certificate:
        return None
    # typeshed gives one type to all of the certificate's entries
    subject = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate.get("subject", ()))
    return ",".join(f"{_SHORT_NAMES.get(name, name)}={escaped(value)}" for part in subject for name, value in part)
