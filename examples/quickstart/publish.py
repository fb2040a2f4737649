"""Publish one message at QoS 1, and say in words what the proxy answers.

    .venv/bin/python examples/quickstart/publish.py sensor/kitchen/temperature '{"celsius": 21.5}'

It shows the two ways in which a device learns that its message was refused: by the acknowledgement (MQTT 5), and by an
error document on a topic that only this device can read (MQTT 3.1.1 too: try `--mqtt 3.1.1`). Exit code 0: the message
was accepted, 1: it was not.
"""

import argparse
import json
import socket
import sys
import time
from collections.abc import Iterator
from typing import Final

from mqttproxy.mqtt.client import ClientConnection, ClientLimits
from mqttproxy.mqtt.events import Event, Settled
from mqttproxy.mqtt.packets import ConnAck, Connect, Message, ProtocolVersion, Publish, SubAck, Subscription
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.session_state import SessionState

ANSWER_SECONDS: Final = 10.0  # how long an answer may take
DOCUMENT_SECONDS: Final = 1.0  # how long after the acknowledgement an error document may come
VERSIONS: Final = {"5": ProtocolVersion.V5, "3.1.1": ProtocolVersion.V311}


class Device:
    """One connection over a plain socket, with the state machine that also serves the proxy's own links to brokers."""

    def __init__(self, address: tuple[str, int], client_id: str, version: ProtocolVersion) -> None:
        self.socket = socket.create_connection(address, ANSWER_SECONDS)
        self.mqtt = ClientConnection(
            Connect(client_id=client_id, version=version, keep_alive=60),
            SessionState(),
            ClientLimits(),
            time.monotonic(),
        )
        self.patience = ANSWER_SECONDS

    def events(self) -> Iterator[Event]:
        """Give what the proxy says, until it has said nothing for as long as we are patient, or has hung up."""
        while True:
            self.socket.sendall(self.mqtt.data_to_send())
            self.socket.settimeout(self.patience)
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                return
            if not data:
                return
            self.mqtt.receive_data(data, time.monotonic())
            while batch := self.mqtt.next_batch(time.monotonic()):
                yield from batch

    def leave(self) -> None:
        """Say goodbye."""
        self.mqtt.disconnect()
        self.socket.sendall(self.mqtt.data_to_send())
        self.socket.close()


def converse(device: Device, message: Message, error_topic: str) -> bool:
    """Connect, subscribe to the error topic, publish, print what comes back; return whether it was accepted."""
    answer: Settled | None = None
    document = b""
    for event in device.events():
        if isinstance(event, ConnAck):
            if event.reason.is_failure:
                print(f"not let in: {in_words(event.reason)}")
                return False
            device.mqtt.resume()
            device.mqtt.subscribe([Subscription(error_topic, 1)])
        elif isinstance(event, SubAck):
            device.mqtt.publish([(message, "token")])
        elif isinstance(event, Settled):
            answer = event
            show(answer)
            device.patience = DOCUMENT_SECONDS
        elif isinstance(event, Publish):
            device.mqtt.acknowledge(event.packet_id, event.qos)
            document = event.payload
            print(f"on {event.topic}: {json.dumps(json.loads(document), indent=2)}")
        if answer and (document or (device.mqtt.version is ProtocolVersion.V5 and not answer.reason.is_failure)):
            break
    if answer is None:
        print("no acknowledgement: the message is not, or not yet, where its route says it must be")
    return answer is not None and not answer.reason.is_failure and not document


def show(answer: Settled) -> None:
    """Print an acknowledgement."""
    print(f"PUBACK {in_words(answer.reason)}")
    if answer.properties.reason_string:
        print(f"  reason string: {answer.properties.reason_string}")
    for name, value in answer.properties.user_properties:
        print(f"  user property: {name} = {value}")


def in_words(reason: ReasonCode) -> str:
    """Return a reason code as the standard writes it."""
    return f"0x{reason:02X} {reason.name.lower().replace('_', ' ')}"


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description="Publish one message at QoS 1 and show the answer.")
    parser.add_argument("topic")
    parser.add_argument("payload")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--mqtt", choices=VERSIONS, default="5", help="version of MQTT")
    parser.add_argument("--client-id", default="quickstart", help="without / + # %%")
    given = parser.parse_args()
    try:
        device = Device((given.host, given.port), given.client_id, VERSIONS[given.mqtt])
        accepted = converse(device, Message(given.topic, given.payload.encode(), 1), f"$proxy/errors/{given.client_id}")
        device.leave()
    except OSError as error:
        print(f"{given.host}:{given.port}: {error}", file=sys.stderr)
        return 1
    return 0 if accepted else 1


if __name__ == "__main__":
    sys.exit(main())
