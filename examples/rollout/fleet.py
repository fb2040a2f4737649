"""The devices of sixteen cold stores, and the screen on the wall that shows what they measured.

    python fleet.py send                    each device sends one reading; some have a fault
    python fleet.py send --firmware 2.1     the same after an update of all devices, which has mended the fault
    python fleet.py show                    the last reading of each store

It finds the proxy by the listener in `proxy.toml` beside it. The devices speak MQTT 5 and send with QoS 1, retained, so
that the screen has the last reading of each store whenever it is switched on.
"""

import argparse
import json
import socket
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mqttproxy.mqtt.client import ClientConnection, ClientLimits
from mqttproxy.mqtt.events import Event, Settled
from mqttproxy.mqtt.packets import ConnAck, Connect, Message, ProtocolVersion, Publish, SubAck, Subscription
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.session_state import SessionState

STORES: Final = range(1, 17)
OLD_STORES: Final = range(1, 7)  # their devices have firmware 1.4, the others 2.0
FAULTY_STORES: Final = (9, 13)  # firmware 2.0 measures in Fahrenheit there
ANSWER_SECONDS: Final = 10.0  # how long an answer may take
QUIET_SECONDS: Final = 1.0  # after which the screen has got all that there is


def reading(store: int, firmware: str) -> dict[str, object]:
    """Return what the device of a store sends."""
    celsius = round(2 + store / 5, 1)
    if firmware.startswith("1."):
        return {"temperature": celsius}
    if firmware == "2.0" and store in FAULTY_STORES:
        return {"temperature": round(celsius * 1.8 + 32, 1), "unit": "F"}
    return {"temperature": celsius, "unit": "C"}


def conversation(address: tuple[str, int], client_id: str) -> Iterator[tuple[ClientConnection, Event]]:
    """Connect, and give what the proxy says, until it says nothing more; what is sent meanwhile goes out."""
    now = time.monotonic
    mqtt = ClientConnection(
        Connect(client_id=client_id, version=ProtocolVersion.V5), SessionState(), ClientLimits(), now()
    )
    with socket.create_connection(address, ANSWER_SECONDS) as stream:
        while True:
            stream.sendall(mqtt.data_to_send())
            try:
                data = stream.recv(65536)
            except TimeoutError:
                return
            if not data:
                return
            mqtt.receive_data(data, now())
            while batch := mqtt.next_batch(now()):
                for event in batch:
                    if isinstance(event, ConnAck):
                        mqtt.resume()
                    if isinstance(event, SubAck):
                        stream.settimeout(QUIET_SECONDS)
                    yield mqtt, event


def send(address: tuple[str, int], store: int, firmware: str) -> ReasonCode | None:
    """Let the device of a store send one reading; return how it was answered."""
    client_id, topic = f"cs-{firmware}-{store:02}", f"store/{store}/temperature"
    payload = json.dumps(reading(store, firmware)).encode()
    for mqtt, event in conversation(address, client_id):
        if isinstance(event, ConnAck):
            mqtt.publish([(Message(topic, payload, 1, True), "reading")])
        elif isinstance(event, Settled):
            return event.reason
    return None


def send_all(address: tuple[str, int], firmware: str | None) -> None:
    """Let all devices send, and print what became of it."""
    answers: defaultdict[str, Counter[ReasonCode | None]] = defaultdict(Counter)
    for store in STORES:
        version = firmware or ("1.4" if store in OLD_STORES else "2.0")
        answers[version][send(address, store, version)] += 1
    for version, counts in answers.items():
        words = [f"{counts.total()} readings", f"{counts.pop(ReasonCode.SUCCESS, 0)} accepted"]
        for reason, count in counts.items():
            why = "no answer" if reason is None else f"0x{reason:02X} {reason.name.lower().replace('_', ' ')}"
            words.append(f"{count} refused with {why}")
        print(f"firmware {version}: {', '.join(words)}")


def show(address: tuple[str, int]) -> None:
    """Print the last reading of each store."""
    last: dict[int, object] = {}
    for mqtt, event in conversation(address, "screen"):
        if isinstance(event, ConnAck):
            mqtt.subscribe([Subscription("store/+/temperature", 0)])
        elif isinstance(event, Publish):
            last[int(event.topic.split("/")[1])] = json.loads(event.payload)["temperature"]
    for store, temperature in sorted(last.items()):
        print(f"store {store:>2}  {temperature:>5}")


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description="The devices of sixteen cold stores, and the screen that shows them.")
    parser.add_argument("what", choices=("send", "show"))
    parser.add_argument("--firmware", help="of all devices, such as 2.1; by default 1.4 and 2.0")
    given = parser.parse_args()
    listeners = tomllib.loads((Path(__file__).parent / "proxy.toml").read_text())["listeners"]
    host, _, port = listeners[0]["bind"].rpartition(":")
    try:
        if given.what == "send":
            send_all((host, int(port)), given.firmware)
        else:
            show((host, int(port)))
    except OSError as error:
        print(f"{host}:{port}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
