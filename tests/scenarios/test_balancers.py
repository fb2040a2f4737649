"""Behind a load balancer, in a process of its own: the device's address is in the audit trail, on every transport."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from mqttproxy.mqtt.client import ClientConnection, ClientLimits
from mqttproxy.mqtt.events import Settled
from mqttproxy.mqtt.packets import ConnAck, Connect, Message
from mqttproxy.mqtt.session_state import SessionState
from mqttproxy.transport.dial import dial
from mqttproxy.transport.stream import ByteStream, TransportError
from mqttproxy.transport.tls import TlsStream, client_context
from mqttproxy.transport.websocket import WebSocketStream
from tests.harness import RunningProxy, running_proxy, write_settings
from tests.transport.proxy_headers import TLS_CN, tls_tlv, tlv, v1, v2_from
from tests.waiting import wait_until

TRANSPORTS = ("tcp", "tls", "ws", "wss")
POLICY = """
[[policies]]
name = "json"
topics = ["#"]
format = "json"
"""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    file = write_settings(tmp_path_factory.mktemp("balanced"), POLICY, transports=TRANSPORTS)
    bind = '\nbind = "127.0.0.1:0"\n'
    file.write_text(file.read_text().replace(bind, f'{bind}proxy_protocol = {{ from = ["127.0.0.1"] }}\n'))
    with running_proxy(file) as running:
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
