"""mqttproxy/transport/tls.py, through listen() and dial() on real loopback sockets."""

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import pytest
import trio
import trustme
from attrs import frozen

from mqttproxy.config.model import Address, ListenerSettings
from mqttproxy.transport.dial import dial
from mqttproxy.transport.listen import listen
from mqttproxy.transport.stream import ByteStream, TransportError
from mqttproxy.transport.tls import TlsStream, client_context, server_context
from tests.transport.meeting import meet, outcome, read_exactly

pytestmark = pytest.mark.wire("tls")


@frozen
class Files:
    """PEM files: of a CA, of a server and a client it has issued, and of a stranger's CA and client."""

    ca: Path
    server: Path
    client: Path
    other_ca: Path
    other_client: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("pki")
    ca, other = trustme.CA(), trustme.CA()
    made = Files(*(folder / f"{name}.pem" for name in ("ca", "server", "client", "other_ca", "other_client")))
    ca.cert_pem.write_to_path(str(made.ca))
    other.cert_pem.write_to_path(str(made.other_ca))
    ca.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(made.server))
    device = ca.issue_cert("device-7", common_name="device-7", organization_name="Acme, Inc.")
    device.private_key_and_cert_chain_pem.write_to_path(str(made.client))
    other.issue_cert("device-7").private_key_and_cert_chain_pem.write_to_path(str(made.other_client))
    return made


def tls_listener(
    files: Files, client_certificate: Literal["none", "optional", "required"] = "none"
) -> ListenerSettings:
    return ListenerSettings(
        name="tls",
        transport="tls",
        bind=Address("127.0.0.1:0"),
        certificate=files.server,
        private_key=files.server,
        client_ca=files.ca,
        client_certificate=client_certificate,
    )


def dial_tls(files: Files, **keywords: Path | bool) -> Callable[[int], Awaitable[ByteStream]]:
    async def connect(port: int) -> ByteStream:
        return await dial(f"mqtts://127.0.0.1:{port}", **{"ca": files.ca, **keywords})  # type: ignore[arg-type] # keywords of several types

    return connect


def trio_tls(context: ssl.SSLContext) -> Callable[[int], Awaitable[trio.SSLStream[trio.SocketStream]]]:
    async def connect(port: int) -> trio.SSLStream[trio.SocketStream]:
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    return connect


async def test_bytes_travel_both_ways_and_the_batch_stays_one(files: Files) -> None:
    device, ours = await meet(tls_listener(files), dial_tls(files))
    device.send_nowait(b"a" * 50)
    device.send_nowait(b"b" * 50)
    assert bytes(await ours.receive()) == b"a" * 50 + b"b" * 50
    ours.send_nowait(b"answer")
    assert bytes(await device.receive()) == b"answer"
    assert ours.peer.transport == device.peer.transport == "tls"
    assert (ours.peer.certificate, ours.peer.der) == (None, None)
    device.abort()
    ours.abort()


async def test_a_megabyte_arrives_whole_through_run_and_wait_drained(files: Files) -> None:
    device, ours = await meet(tls_listener(files), dial_tls(files))
    data = bytes(range(256)) * 4096 * 8
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run)
        ours.send_nowait(data)
        assert ours.unsent > 0
        assert await read_exactly(device, len(data)) == data
        await ours.wait_drained()
        nursery.cancel_scope.cancel()
    device.abort()
    ours.abort()


async def test_close_notify_reads_as_the_end(files: Files) -> None:
    device, ours = await meet(tls_listener(files), dial_tls(files))
    async with trio.open_nursery() as nursery:
        device.send_nowait(b"last words")
        nursery.start_soon(device.aclose)
        assert bytes(await ours.receive()) == b"last words"
        assert await ours.receive() == b""
        assert await ours.receive() == b""
        await ours.aclose()


async def test_trio_sees_an_orderly_end(files: Files) -> None:
    context = client_context(ca=files.ca)
    device, ours = await meet(tls_listener(files), trio_tls(context))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.aclose)
        assert await device.receive_some() == b""  # BrokenResourceError if close_notify were missing
        await trio.aclose_forcefully(device)


async def test_E3_an_end_without_close_notify_is_a_peer_that_is_gone(files: Files) -> None:
    device, ours = await meet(tls_listener(files), trio_tls(client_context(ca=files.ca)))
    await device.transport_stream.send_eof()
    assert await ours.receive() == b""
    await trio.aclose_forcefully(device)
    ours.abort()


async def test_E6_a_reset_reads_as_transport_error(files: Files) -> None:
    device, ours = await meet(tls_listener(files), dial_tls(files))
    device.abort()
    with pytest.raises(TransportError, match="connection reset"):
        await ours.receive()
    ours.send_nowait(b"into the void")
    await ours.aclose()


async def test_bytes_after_the_handshake_that_are_not_tls_are_an_error(files: Files) -> None:
    device, ours = await meet(tls_listener(files), trio_tls(client_context(ca=files.ca)))
    await device.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(TransportError, match=r"TLS: .*(mac|decryption)"):
        await ours.receive()
    await trio.aclose_forcefully(device)
    await ours.aclose()


async def test_a_certificate_that_is_optional_and_shown_is_known_by_its_subject(files: Files) -> None:
    connect = dial_tls(files, certificate=files.client, private_key=files.client)
    device, ours = await meet(tls_listener(files, "optional"), connect)
    assert ours.peer.certificate is not None
    assert ours.peer.certificate.startswith(r"O=Acme\, Inc.,")
    assert ours.peer.certificate.endswith("CN=device-7")
    assert ours.peer.der is not None
    assert b"device-7" in ours.peer.der
    device.abort()
    ours.abort()


async def test_a_certificate_that_is_optional_may_be_missing(files: Files) -> None:
    device, ours = await meet(tls_listener(files, "optional"), dial_tls(files))
    assert ours.peer.certificate is None
    device.abort()
    ours.abort()


async def test_a_certificate_that_is_required_and_missing_is_refused(files: Files) -> None:
    ours = await outcome(tls_listener(files, "required"), dial_tls(files))
    assert "peer did not return a certificate" in str(ours)


@pytest.mark.parametrize("client_certificate", ["optional", "required"])
async def test_D11_a_certificate_of_another_ca_is_refused(
    files: Files, client_certificate: Literal["optional", "required"]
) -> None:
    connect = dial_tls(files, certificate=files.other_client, private_key=files.other_client)
    ours = await outcome(tls_listener(files, client_certificate), connect)
    assert "certificate not trusted" in str(ours)


async def test_X10_a_server_of_another_ca_is_refused_unless_verification_is_skipped(files: Files) -> None:
    listener = await listen(tls_listener(files))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_whatever_comes, listener.accept, listener.handshake)
        with pytest.raises(TransportError, match=r"^mqtts://127\.0\.0\.1:\d+: .*certificate not trusted: unable to"):
            await dial(f"mqtts://127.0.0.1:{listener.port}", ca=files.other_ca)
        with pytest.raises(TransportError, match="certificate not trusted"):  # the system's CAs
            await dial(f"mqtts://127.0.0.1:{listener.port}")
        stream = await dial(f"mqtts://127.0.0.1:{listener.port}", insecure_skip_verify=True)
        stream.abort()
        nursery.cancel_scope.cancel()
    listener.close()


async def test_X10_a_server_with_another_name_is_refused(files: Files) -> None:
    listener = await listen(tls_listener(files))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_whatever_comes, listener.accept, listener.handshake)
        raw = await dial(f"mqtt://127.0.0.1:{listener.port}")
        with pytest.raises(TransportError, match=r"certificate not trusted: .*mismatch.*broker\.example"):
            await TlsStream.connect(raw, client_context(ca=files.ca), "broker.example")
        raw.abort()
        nursery.cancel_scope.cancel()
    listener.close()


async def test_E2_plain_mqtt_to_the_tls_port_is_refused_at_once(files: Files) -> None:
    async def connect(port: int) -> ByteStream:
        stream = await dial(f"mqtt://127.0.0.1:{port}")
        stream.send_nowait(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
        return stream

    assert "TLS handshake" in str(await outcome(tls_listener(files), connect))


async def test_E2_tls_to_a_port_that_speaks_no_tls_is_told_in_words(files: Files) -> None:
    listener = await listen(ListenerSettings(name="plain", bind=Address("127.0.0.1:0")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_in_mqtt, listener.accept)
        with pytest.raises(TransportError, match=r"TLS handshake: wrong version number"):
            await dial(f"mqtts://127.0.0.1:{listener.port}", ca=files.ca)
    listener.close()


async def test_E3_tls_1_1_is_refused(files: Files) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(files.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    assert "unsupported protocol" in str(await outcome(tls_listener(files), trio_tls(context)))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(files: Files, version: ssl.TLSVersion) -> None:
    context = client_context(ca=files.ca)
    context.maximum_version = context.minimum_version = version
    device, ours = await meet(tls_listener(files), trio_tls(context))
    await device.send_all(b"hello")
    assert bytes(await ours.receive()) == b"hello"
    await trio.aclose_forcefully(device)
    ours.abort()


async def test_E1_a_client_hello_without_end_is_refused(files: Files) -> None:
    async def connect(port: int) -> ByteStream:
        stream = await dial(f"mqtt://127.0.0.1:{port}")
        stream.send_nowait(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff\x03\x03" + bytes(0x4000 - 6))  # says 16 MiB
        return stream

    assert "excessive message size" in str(await outcome(tls_listener(files), connect))


async def test_E1_a_peer_that_hangs_up_in_the_handshake_is_told_as_such(files: Files) -> None:
    async def connect(port: int) -> ByteStream:
        stream = await dial(f"mqtt://127.0.0.1:{port}")
        await stream.aclose()
        return stream

    assert "hung up during the TLS handshake" in str(await outcome(tls_listener(files), connect))


def test_E3_renegotiation_and_compression_are_off(files: Files) -> None:
    for context in (server_context(files.server, files.server), client_context()):
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION


@pytest.mark.parametrize(
    ("certificate", "ca", "words"),
    [
        ("missing.pem", "ca.pem", r"certificate .*missing\.pem and .*missing\.pem: no such file or directory"),
        ("ca.pem", "ca.pem", r"certificate .*ca\.pem"),
        ("server.pem", "missing.pem", r"CA .*missing\.pem: no such file or directory"),
        ("server.pem", "junk.pem", r"CA .*junk\.pem: no certificate or crl found"),
    ],
)
def test_a_bad_file_is_named(files: Files, certificate: str, ca: str, words: str) -> None:
    folder = files.ca.parent
    (folder / "junk.pem").write_text("junk")
    with pytest.raises(TransportError, match=words):
        server_context(folder / certificate, folder / certificate, client_ca=folder / ca, client_certificate="required")


def test_a_required_certificate_needs_a_ca(files: Files) -> None:
    with pytest.raises(TransportError, match="needs client_ca"):
        server_context(files.server, files.server, client_certificate="required")


async def accept_whatever_comes(
    accept: Callable[[], Awaitable[ByteStream]], handshake: Callable[..., Awaitable[ByteStream]]
) -> None:
    while True:
        raw = await accept()
        try:
            stream = await handshake(raw)
        except TransportError:
            continue
        stream.abort()


async def answer_in_mqtt(accept: Callable[[], Awaitable[ByteStream]]) -> None:
    stream = await accept()
    await stream.receive()
    stream.send_nowait(b"\x20\x02\x00\x01" * 8)
    await stream.aclose()
