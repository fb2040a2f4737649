"""MQTT.js as devices: one Node process, told what to do by JSON lines, see tests/node/device.mjs."""

import json
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any, Final

from attrs import define, field

from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties
from tests.harness import PATH, SCHEMES
from tests.scenarios.devices import Answer, NotLetInError, Place
from tests.waiting import PATIENCE, wait_until

NODE: Final = Path(__file__).parents[1] / "node"
_NAMES: Final = {  # ours, and those of MQTT.js
    "payload_format_indicator": "payloadFormatIndicator",
    "message_expiry_interval": "messageExpiryInterval",
    "content_type": "contentType",
    "response_topic": "responseTopic",
    "correlation_data": "correlationData",
    "user_properties": "userProperties",
}


@define(eq=False)
class Node:
    """The process; its devices are made with `device`."""

    _process: "subprocess.Popen[str]"
    events: list[dict[str, Any]] = field(factory=list)
    tokens: Iterator[int] = field(factory=lambda: count(1))

    def tell(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def wait(self, event: str, **facts: Any) -> dict[str, Any]:
        """Wait for an event with these facts; an error of that device fails the test."""
        found = wait_until(lambda: self._find(event, facts), f"{event} {facts}")
        assert found is not None
        return found

    def device(self, client_id: str, place: Place, *, clean: bool = True) -> "JavaScriptDevice":
        """Connect a new device."""
        return JavaScriptDevice(self, client_id, place, clean)

    def read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.events.append(json.loads(line))

    def _find(self, event: str, facts: dict[str, Any]) -> dict[str, Any] | None:
        mine = [told for told in self.events if told.get("device") == facts.get("device")]
        errors = [told for told in mine if told["event"] == "error" and told.get("code") != GONE]
        assert not errors, errors
        return next((told for told in mine if told["event"] == event and facts.items() <= told.items()), None)


GONE: Final = "EPIPE"  # it said good bye to a server that had closed, as one does that sends a device away


@contextmanager
def running_node() -> Iterator[Node]:
    """Run the process; its devices are disconnected with it."""
    node = shutil.which("node")
    assert node, "node is not installed: run `sh tests/servers.sh`, or apt-get install nodejs npm"
    assert (NODE / "node_modules" / "mqtt").is_dir(), f"MQTT.js is not installed: cd {NODE} && npm ci"
    process = subprocess.Popen(
        [node, str(NODE / "device.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    running = Node(process)
    reader = Thread(target=running.read, name="node")
    reader.start()
    try:
        running.wait("started")
        yield running
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            reader.join(PATIENCE)
            process.stdout.close()


@define(eq=False)
class JavaScriptDevice:
    """One client of MQTT.js, for one connection."""

    _node: Node
    client_id: str
    place: Place
    clean: bool = True  # False: the server keeps its session
    sessions_found: int = 0
    _key: str = ""  # the process may have had a device with this client identifier before

    def __attrs_post_init__(self) -> None:
        place, shown = self.place, self.place.shown
        self._key = f"{self.client_id}#{next(self._node.tokens)}"
        is_web = place.transport in {"ws", "wss"}
        self._node.tell(
            do="connect",
            device=self._key,
            id=self.client_id,
            url=f"{SCHEMES[place.transport]}://127.0.0.1:{place.port}" + (PATH if is_web else ""),
            ca=str(place.ca) if place.transport in {"tls", "wss"} else None,
            version=5 if place.version == "5" else 4,
            clean=self.clean,
            username=shown.username,
            password=shown.password,
            certificate=str(shown.certificate) if shown.certificate else None,
            key=str(shown.private_key) if shown.private_key else None,
            method=shown.method,
        )
        told = self._first("connected", "error", "closed")
        if told["event"] != "connected":
            code = told.get("code")  # of CONNACK; one of Node.js is a word
            raise NotLetInError(code if isinstance(code, int) else None, told.get("words", ""))
        self.sessions_found += told["sessionPresent"]

    @property
    def received(self) -> list[Message]:
        mine = [told for told in list(self._node.events) if told.get("device") == self._key]
        return [_message(told) for told in mine if told["event"] == "message"]

    @property
    def dismissed(self) -> int | None:
        found = self._node._find("dismissed", {"device": self._key})
        return found["reason"] if found else None

    def publish(self, message: Message) -> Answer:
        token = next(self._node.tokens)
        self._node.tell(
            do="publish",
            device=self._key,
            token=token,
            topic=message.topic,
            payload=b64encode(message.payload).decode(),
            qos=message.qos,
            retain=message.retain,
            properties=_told(message.properties) if self.place.version == "5" else None,
        )
        answer = self._node.wait("answered", device=self._key, token=token)
        properties = answer["properties"]
        return Answer(answer["reason"], properties.get("reasonString"), _pairs(properties.get("userProperties", {})))

    def subscribe(self, topic_filter: str, qos: int) -> int:
        token = next(self._node.tokens)
        self._node.tell(do="subscribe", device=self._key, token=token, filter=topic_filter, qos=qos)
        return int(self._node.wait("answered", device=self._key, token=token)["granted"][0])

    def authenticate(self, username: str, password: str) -> int:
        """Authenticate anew; 0, or the reason of the server's DISCONNECT."""
        before = self._count("authenticated")
        self._node.tell(do="authenticate", device=self._key, username=username, password=password)
        wait_until(lambda: self._count("authenticated") > before or self.dismissed is not None, "the end of AUTH")
        return self.dismissed or 0

    def _first(self, *events: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            told = list(self._node.events)
            return next((one for one in told if one.get("device") == self._key and one["event"] in events), None)

        found = wait_until(look, f"any of {events}")
        assert found is not None
        return found

    def _count(self, event: str) -> int:
        told = list(self._node.events)
        return sum(one["event"] == event and one.get("device") == self._key for one in told)

    def close(self) -> None:
        self._node.tell(do="end", device=self._key)
        self._node.wait("closed", device=self._key)


def _message(told: dict[str, Any]) -> Message:
    given = told["properties"]
    fields = {ours: given[theirs] for ours, theirs in _NAMES.items() if theirs in given}
    if "correlation_data" in fields:
        fields["correlation_data"] = b64decode(fields["correlation_data"])
    if "payload_format_indicator" in fields:
        fields["payload_format_indicator"] = int(fields["payload_format_indicator"])
    if "user_properties" in fields:
        fields["user_properties"] = _pairs(fields["user_properties"])
    properties = Properties(**fields) if fields else NO_PROPERTIES
    return Message(told["topic"], b64decode(told["payload"]), told["qos"], told["retain"], properties)


def _told(properties: Properties) -> dict[str, Any]:
    told = {theirs: getattr(properties, ours) for ours, theirs in _NAMES.items()}
    told = {name: value for name, value in told.items() if value not in (None, ())}
    if "correlationData" in told:
        told["correlationData"] = b64encode(told["correlationData"]).decode()
    if "payloadFormatIndicator" in told:
        told["payloadFormatIndicator"] = bool(told["payloadFormatIndicator"])
    if "userProperties" in told:
        lists: dict[str, list[str]] = {}
        for name, value in told["userProperties"]:
            lists.setdefault(name, []).append(value)
        told["userProperties"] = lists
    return told


def _pairs(told: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    # MQTT.js keeps them by name: the order among different names is that of their first appearance.
    lists = {name: value if isinstance(value, list) else [value] for name, value in told.items()}
    return tuple((name, value) for name, values in lists.items() for value in values)
