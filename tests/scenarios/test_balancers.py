"""Behind a load balancer, in a process of its own: the device's address is in the audit trail, on every transport."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import trio

from mqttproxy.cli.running import ask_running
from mqttproxy.mqtt.client import ClientConnection, ClientLimits
from mqttproxy.mqtt.events import Settled
from mqttproxy.mqtt.packets import ConnAck, Connect, Disconnect, Message
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.transport.dial import dial
from mqttproxy.transport.stream import ByteStream, TransportError
from mqttproxy.transport.tls import TlsStream, client_context
from mqttproxy.transport.websocket import WebSocketStream
from tests.access.test_by_certificate import Authority
from tests.harness import RunningProxy, running_proxy, write_settings
from tests.transport.proxy_headers import TLS_CERTIFICATE, TLS_CN, tls_tlv, tlv, v1, v2_from
from tests.waiting import wait_until

TRANSPORTS = ("tcp", "tls", "ws", "wss")
POLICY = """
[[policies]]
name = "json"
topics = ["#"]
format = "json"
"""


def balanced(folder: Path, more: str, of_listeners: str = "") -> Path:
    """Write a configuration of listeners behind a load balancer, which is here."""
    file = write_settings(folder, more, transports=TRANSPORTS)
    bind = '\nbind = "127.0.0.1:0"\n'
    added = f'{bind}proxy_protocol = {{ from = ["127.0.0.1"] }}\n{of_listeners}'
    file.write_text(file.read_text().replace(bind, added))
    return file


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    with running_proxy(balanced(tmp_path_factory.mktemp("balanced"), POLICY)) as running:
        yield running


async def through(proxy: RunningProxy, transport: str, head: bytes) -> ByteStream:
    """Connect as a load balancer does that says `head` and then passes on what the device says."""
    from websockets.uri import parse_uri  # noqa: PLC0415 - only here

    stream: ByteStream = await dial(f"mqtt://127.0.0.1:{proxy.port(transport)}")
    stream.send_nowait(head)
    if transport in ("tls", "wss"):
        context = client_context(ca=proxy.file.parent / "tls" / "ca.pem")
        stream = await TlsStream.connect(stream, context, "localhost")
    if transport in ("ws", "wss"):
        stream = await WebSocketStream.connect(stream, parse_uri(f"{transport}://localhost/mqtt"))
    return stream


async def publish(stream: ByteStream, client_id: str, payload: bytes) -> Settled:
    """Connect, publish at QoS 1, and return the answer."""
    conn = ClientConnection(Connect(client_id=client_id), SessionState(), ClientLimits(), trio.current_time())
    with trio.fail_after(20):
        while True:
            if data := conn.data_to_send():
                stream.send_nowait(data)
            conn.receive_data(await stream.receive(), trio.current_time())
            for event in conn.next_batch(trio.current_time()):
                if isinstance(event, ConnAck):
                    conn.resume()
                    conn.publish([(Message("t", payload, 1), None)])
                elif isinstance(event, Settled):
                    return event


def audited(proxy: RunningProxy, client_id: str) -> list[str]:
    file: Path = proxy.file.parent / "data" / "audit" / "audit.jsonl"
    lines = map(json.loads, file.read_text().splitlines())
    return [line["address"] for line in lines if line.get("client_id") == client_id]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("version", [1, 2])
async def test_D12_the_audit_trail_has_the_devices_address(proxy: RunningProxy, transport: str, version: int) -> None:
    address, client_id = f"198.51.100.{version}", f"{transport}-{version}"
    head = v1(address, 5) if version == 1 else v2_from(address, 5, tls_tlv(tlv(TLS_CN, b"x")), checksum=True)
    stream = await through(proxy, transport, head)
    answer = await publish(stream, client_id, b"no json")
    assert answer.reason.is_failure
    stream.abort()
    found = wait_until(lambda: audited(proxy, client_id), "a line of the audit trail")
    assert found == [address]


async def test_D12_without_a_header_nobody_comes_in(proxy: RunningProxy) -> None:
    before = proxy.metric("mqtt_proxy_connections_refused_total", reason="bad_introduction")
    stream = await dial(f"mqtt://127.0.0.1:{proxy.port('tcp')}")
    stream.send_nowait(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
    with trio.fail_after(20), pytest.raises(TransportError, match="reset"):
        await stream.receive()
    stream.abort()
    assert proxy.metric("mqtt_proxy_connections_refused_total", reason="bad_introduction") == before + 1


def two_are_in(proxy: RunningProxy, transport: str) -> bool:
    return proxy.metric("mqtt_active_connections", listener=transport) == 2


class Arriving:
    """A device that has said CONNECT."""

    def __init__(self, stream: ByteStream, client_id: str) -> None:
        self.stream = stream
        self._conn = ClientConnection(Connect(client_id=client_id), SessionState(), ClientLimits(), trio.current_time())
        stream.send_nowait(self._conn.data_to_send())

    async def hear(self, kind: type[ConnAck] | type[Disconnect]) -> int:
        """Return the reason of what comes next."""
        with trio.fail_after(20):
            while True:
                self._conn.receive_data(await self.stream.receive(), trio.current_time())
                for event in self._conn.next_batch(trio.current_time()):
                    assert isinstance(event, kind)
                    return int(event.reason)


async def test_D11_with_a_revoked_certificate_nobody_comes_in_by_a_load_balancer(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority, until = Authority(start=now - timedelta(days=1)), now + timedelta(days=1)
    (tmp_path / "crl.pem").write_bytes(authority.revoke(9, until=until))
    good, bad = authority.issue("good"), authority.issue("bad", serial=9)
    by_name = tlv(TLS_CN, b"x")

    def head(*inside: bytes, flags: int = 0x07) -> bytes:
        return v2_from("198.51.100.1", 5, tls_tlv(*inside, flags=flags))

    cases = {
        "good": (head(by_name, tlv(TLS_CERTIFICATE, good)), 0),
        "none": (head(flags=0x01), 0),
        "plain": (v1("198.51.100.1", 5), 0),
        "bad": (head(by_name, tlv(TLS_CERTIFICATE, bad)), 0x87),
        "named": (head(by_name), 0x87),
        "other": (head(tlv(TLS_CERTIFICATE, Authority("B", start=now - timedelta(days=1)).issue("b"))), 0x87),
        "junk": (head(tlv(TLS_CERTIFICATE, b"junk")), 0x87),
    }
    with running_proxy(balanced(tmp_path, "", 'crl = "crl.pem"\n')) as proxy:
        inside: dict[str, Arriving] = {}
        for transport in TRANSPORTS:
            for name, (said, expected) in cases.items():
                device = Arriving(await through(proxy, transport, said), f"{transport}-{name}")
                assert await device.hear(ConnAck) == expected, (transport, name)
                if expected:
                    device.stream.abort()
                else:
                    inside[f"{transport}-{name}"] = device
        count = 4 * len(TRANSPORTS)
        counted = "mqtt_proxy_connections_refused_total"
        wait_until(lambda: proxy.metric(counted, reason="certificate_refused") == count, "all are counted")
        answer = await trio.to_thread.run_sync(lambda: ask_running(proxy.file, "ban", do="refused"))
        told = {one["client_id"]: (one["rule"], one["words"]) for one in answer["refused"]}
        assert told["tcp-bad"] == ("listeners.crl", "the certificate was revoked")
        assert len(told) == count
        assert proxy.log("certificate_refused")[0]["why"] == "the certificate was revoked"

        (tmp_path / "crl.pem").write_bytes(authority.revoke(7, 9, until=until))
        assert proxy.reload()["event"] == "reloaded"
        for transport in TRANSPORTS:
            assert await inside[f"{transport}-good"].hear(Disconnect) == 0x87
            again = Arriving(await through(proxy, transport, cases["good"][0]), "again")
            assert await again.hear(ConnAck) == 0x87
            again.stream.abort()
            inside.pop(f"{transport}-good").stream.abort()
            wait_until(partial(two_are_in, proxy, transport), "only who has shown none stays")
        for device in inside.values():
            device.stream.abort()
