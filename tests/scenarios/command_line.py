"""Mosquitto's command line clients as devices: each message, and each subscription, is a process of its own.

Debian builds them without WebSocket, so they come over TCP and TLS only. What they tell of an answer is what they
print with `-d`: reason code and, at QoS 1, reason string; never user properties.
"""

import re
import subprocess
from collections.abc import Sequence
from threading import Thread
from typing import IO, Final

from attrs import define, field
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode as PahoReason

from mqttproxy.mqtt.packets import Message, Properties
from tests.scenarios.devices import Answer, NotLetInError, Place
from tests.scenarios.mosquitto import program, run
from tests.waiting import PATIENCE, wait_until

_OPTIONS: Final = {
    "payload_format_indicator": "payload-format-indicator",
    "message_expiry_interval": "message-expiry-interval",
    "content_type": "content-type",
    "response_topic": "response-topic",
    "correlation_data": "correlation-data",
}
_LINE: Final = "got %t %q %r %x"
_GOT: Final = re.compile(r"got (\S+) (\d) (\d) ([0-9a-f]*)$")
_SUBSCRIBED: Final = re.compile(r"Subscribed \(mid: \d+\): (\d+)")


@define(eq=False)
class CommandLineDevice:
    """mosquitto_pub for what is published, mosquitto_sub for what is subscribed to.

    Both at once need two client identifiers: the subscriber's ends in `-sub`.
    """

    client_id: str
    place: Place
    clean: bool = True  # False: the server keeps the subscriber's session
    _subscriber: "subprocess.Popen[str] | None" = None
    _lines: list[str] = field(factory=list)
    _reader: Thread | None = None

    @property
    def received(self) -> list[Message]:
        found = [match for line in list(self._lines) if (match := _GOT.match(line))]
        return [Message(got[1], bytes.fromhex(got[4]), int(got[2]), got[3] == "1") for got in found]

    def publish(self, message: Message) -> Answer:
        """Publish with mosquitto_pub, which waits for the end of the handshake and prints what it got.

        Raises:
            NotLetInError: its exit code is then the reason of CONNACK, and others mean that there was none.

        """
        done = run("mosquitto_pub", ["-d", "-s", *self._publishing(message), *_properties(message)], message.payload)
        shown = (done.stdout + done.stderr).decode()
        failed = re.search(r"Publish \d+ failed: (.*)\.\n(?:(.*)\n)?", shown)
        if "Connection error" in shown:
            raise NotLetInError(done.returncode, shown)
        if done.returncode and "received CONNACK" not in shown and not failed:
            raise NotLetInError(None, shown)
        if not failed:
            assert done.returncode == 0, shown
            return Answer()
        reason = PahoReason(PacketTypes.PUBACK, failed[1])  # words of the standard, the same in both
        assert message.qos == 2 or f"received PUBACK (Mid: 1, RC:{reason.value})" in shown, shown
        return Answer(reason.value, failed[2])

    def ask(self, message: Message, answers_on: str) -> bytes:
        """Publish with mosquitto_rr, which subscribes to a topic, publishes, and prints what comes on that topic."""
        arguments = [*self._publishing(message), "-e", answers_on, "-m", message.payload.decode(), "-W", "10", "-N"]
        done = run("mosquitto_rr", arguments)
        assert done.stdout, (done.returncode, done.stderr.decode())
        return done.stdout

    def subscribe(self, topic_filter: str, qos: int) -> int:
        kept = [] if self.clean else ["-c", *(["-x", "3600"] if self.place.version == "5" else [])]
        arguments = ["-d", *self._base("-sub"), *kept, "-q", str(qos), "-t", topic_filter, "-F", _LINE]
        command = ["stdbuf", "-oL", program("mosquitto_sub"), *arguments]
        self._subscriber = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._subscriber.stdout is not None
        self._reader = Thread(target=self._read, args=(self._subscriber.stdout,), name=self.client_id)
        self._reader.start()
        return int(wait_until(self._granted, f"SUBACK for {topic_filter} to {self.client_id}")[0])

    def close(self) -> None:
        if self._subscriber is not None and self._reader is not None:
            self._subscriber.terminate()
            self._subscriber.wait(PATIENCE)
            self._reader.join(PATIENCE)
            assert self._subscriber.stdout is not None
            self._subscriber.stdout.close()

    def _granted(self) -> list[str]:
        return [found[1] for line in list(self._lines) if (found := _SUBSCRIBED.search(line))]

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.append(line.rstrip("\n"))

    def _publishing(self, message: Message) -> list[str]:
        retain = ["-r"] if message.retain else []
        return [*self._base(), "-q", str(message.qos), "-t", message.topic, *retain]

    def _base(self, suffix: str = "") -> list[str]:
        place = self.place
        shown = place.shown
        options: dict[str, object] = {"-A": place.source or None}
        if shown.method is None:
            options |= {"-u": shown.username, "-P": shown.password}
        if place.transport == "tls":
            options |= {"--cafile": place.ca, "--cert": shown.certificate, "--key": shown.private_key}
        given = [str(one) for option in options.items() if option[1] is not None for one in option]
        if shown.method is not None:
            for name, value in (("method", shown.method), ("data", shown.first)):
                given += ["-D", "connect", f"authentication-{name}", value]
        version = "5" if place.version == "5" else "311"
        return ["-i", self.client_id + suffix, "-h", "127.0.0.1", "-p", str(place.port), "-V", version, *given]


def _properties(message: Message) -> Sequence[str]:
    given: Properties = message.properties
    arguments = []
    for name, option in _OPTIONS.items():
        if (value := getattr(given, name)) is not None:
            arguments += ["-D", "publish", option, value.decode() if isinstance(value, bytes) else str(value)]
    for name, value in given.user_properties:
        arguments += ["-D", "publish", "user-property", name, value]
    return arguments
