"""Reload under load, every other time with something broken: `python -m tests.faults.reloads --reloads 1000`.

A real proxy, asked over its socket as `mqttproxy reload` does. Devices and brokers live in this process, and so does
the ledger. In generation number k everything is named after k: its policy, its schema, and the broker that its route
leads to. Every message fails its contract and is carried with a mark, so that each tells by which policy and schema it
was judged and, by where it arrives, how it was routed. Between generations a listener and an upstream that nobody uses
come and go. Messages of one device go to two brokers in turn, so their order over both says nothing.

Exit code 1: somebody was disconnected, a message was lost, repeated or judged by a mixture, a broken configuration was
put in force, or a whole one was not.
"""

import argparse
import json
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import trio
from attrs import define, field

from mqttproxy.cli.running import ask_running
from mqttproxy.mqtt.events import Event
from mqttproxy.mqtt.packets import Publish
from mqttproxy.mqtt.server import ServerConnection
from tests.faults.ledger import Ledger, Report, Stream
from tests.faults.network import until
from tests.faults.peers import Device
from tests.faults.receivers import Receiver
from tests.harness import RunningProxy, start_proxy
from tests.ports import free_port

TICK: Final = 0.01  # seconds between turns of the load
PATIENCE: Final = 300.0  # seconds for what is on its way to arrive
SHELF: Final = 50  # subjects are used again after so many generations
EITHER: Final = "either"  # the ledger's only destination: each message goes to one of the two
_NUMBER: Final = re.compile(r"g(\d+)")

_TEXT: Final = """
[proxy]
data_dir = "data"
drain_grace = "2s"
[access]
allow_anonymous = true
[schemas]
check_time = "120s"
[telemetry]
metrics_bind = "127.0.0.1:0"
log_format = "json"
[[listeners]]
name = "tcp"
bind = "127.0.0.1:{port}"
[[policies]]
name = "g{number}"
topics = ["load/#"]
schema = "{subject}@1"
on_failure = ["mark"]
[[upstreams]]
name = "even"
url = "{even}"
[[upstreams]]
name = "odd"
url = "{odd}"
[[routes]]
topics = ["#"]
to = ["{destination}"]
{more}
"""
_COMES_AND_GOES: Final = """
[[listeners]]
name = "extra"
bind = "127.0.0.1:{0}"
[[upstreams]]
name = "extra"
url = "mqtt://127.0.0.1:1"
"""

# What makes a whole configuration a broken one; the word that its fault must have.
_BREAKS: Final[list[tuple[Callable[[str], str], str]]] = [
    (lambda text: text.replace("[access]", "[access"), "TOML"),
    (lambda text: text[: text.index("[[policies]]") + 30], "TOML"),
    (lambda text: text.replace("on_failure", "on_failures"), "on_failures"),
    (lambda text: text.replace('schema = "', 'schema = "none-'), "none-"),
    (lambda text: text.replace('to = ["', 'to = ["nobody-'), "nobody-"),
    (lambda text: text.replace("allow_anonymous = true", 'allow_anonymous = "yes"'), "allow_anonymous"),
    (lambda text: text + '[[listeners]]\nname = "t"\nbind = "127.0.0.1:1"\ntransport = "tls"\n', "certificate"),
    (lambda text: text + '[[listeners]]\nname = "taken"\nbind = "127.0.0.1:{taken}"\n', "address already in use"),
    (lambda text: text + "[limits]\nconnections = 0\n", "limits.connections"),
]


class JsonLedger(Ledger):
    """A ledger whose payloads are texts in JSON."""

    def send(self, stream: Stream) -> bytes:
        return b'"%b"' % super().send(stream)

    def _find(self, payload: bytes) -> Any:
        return super()._find(payload.strip(b'"'))


@define(eq=False)
class Witness(Receiver):
    """A broker that looks at the marks of what arrives.

    Attributes:
        parity: of the generations whose route leads here.
        mixtures: in words. There must be none.
        seen: numbers of generations that judged something.

    """

    parity: int = 0
    mixtures: list[str] = field(factory=list)
    seen: set[int] = field(factory=set)

    def _take(self, conn: ServerConnection, events: list[Event]) -> None:
        for event in events:
            if type(event) is Publish:
                self._look(event)
        name, self.name = self.name, EITHER
        super()._take(conn, events)
        self.name = name

    def _look(self, message: Publish) -> None:
        marks = dict(message.properties.user_properties)
        policy, schema = marks.get("mp-policy", ""), marks.get("mp-schema", "")
        number = int(match[1]) if (match := _NUMBER.fullmatch(policy)) else -1
        self.seen.add(number)
        if number < 0 or schema != f"{subject(number)}@1" or number % 2 != self.parity:
            self.mixtures.append(f"judged by {policy} and {schema}, and carried to {self.name}")


def subject(number: int) -> str:
    return f"s{number % SHELF}"


@define(kw_only=True)
class Outcome:
    """What came of a run. `faults`: what no run may have, in words."""

    reloads: int
    refused: int
    report: Report
    generations_seen: int
    faults: list[str]


@define(eq=False)
class Run:
    """One proxy under load."""

    folder: Path
    reloads: int
    rate: float = 500.0
    devices: int = 16
    tell: Callable[[str], None] = lambda _: None
    ledger: JsonLedger = field(factory=lambda: JsonLedger([EITHER]))
    brokers: list[Witness] = field(init=False)
    faults: list[str] = field(factory=list)
    _number: int = 0  # of the configuration in force
    _policies: dict[int, int] = field(factory=dict)  # generation: number of its configuration
    _port: int = field(factory=free_port)
    _extra: int = field(factory=free_port)

    def __attrs_post_init__(self) -> None:
        self.brokers = [Witness("even", ledger=self.ledger), Witness("odd", ledger=self.ledger, parity=1)]
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def _file(self) -> Path:
        return self.folder / "proxy.toml"

    def _text(self, number: int) -> str:
        even, odd = self.brokers
        shelf = self.folder / "schemas" / subject(number)
        shelf.mkdir(parents=True, exist_ok=True)
        # The same whenever it is used again: a version that was in force may not change.
        (shelf / "1.json").write_text(json.dumps({"type": "string", "maxLength": 3, "title": subject(number)}))
        return _TEXT.format(
            port=self._port, number=number, subject=subject(number), even=even.url, odd=odd.url,
            destination=(even, odd)[number % 2].name,
            more=_COMES_AND_GOES.format(self._extra) if number % 3 == 0 else "",
        )  # fmt: skip

    async def go(self) -> Outcome:
        """Do all of it."""
        chance = Random(1)
        url = f"mqtt://127.0.0.1:{self._port}"
        devices = [Device(url, f"d{number}", chance, ledger=self.ledger) for number in range(self.devices)]
        refused = 0
        async with trio.open_nursery() as nursery:
            for broker in self.brokers:
                nursery.start_soon(broker.run)
            await until(lambda: all(broker.is_listening for broker in self.brokers))
            self._file.write_text(self._text(0))
            proxy = await trio.to_thread.run_sync(start_proxy, self._file)
            try:
                await until(lambda: proxy.process.poll() is not None or bool(proxy.log("ready")))
                self._policies[1] = 0
                for device in devices:
                    nursery.start_soon(device.run)
                await until(lambda: all(device.is_connected for device in devices))
                async with trio.open_nursery() as loading:
                    loading.start_soon(self._load, devices)
                    for turn in range(self.reloads):
                        refused += await self._reload(turn)
                    loading.cancel_scope.cancel()
                await self._drain(devices)
                await self._look_back(proxy, devices)
            finally:
                proxy.kill()
                nursery.cancel_scope.cancel()
        return Outcome(
            reloads=self.reloads,
            refused=refused,
            report=self.ledger.report(),
            generations_seen=len(set().union(*(broker.seen for broker in self.brokers))),
            faults=self.faults,
        )

    async def _load(self, devices: list[Device]) -> None:
        due = 0.0
        while True:
            before = trio.current_time()
            await trio.sleep(TICK)
            due += self.rate * (trio.current_time() - before)
            for device in devices:
                due -= device.publish(min(int(due) // len(devices) + 1, int(due)))
            due = min(due, self.rate)

    async def _reload(self, turn: int) -> bool:
        """Reload once, broken every other time; returns whether it was refused."""
        number = self._number + 1
        text, word = self._text(number), ""
        if is_broken := turn % 2 == 1:
            spoil, word = _BREAKS[turn // 2 % len(_BREAKS)]
            text = spoil(text).replace("{taken}", str(self.brokers[0].port))
        self._file.write_text(text)
        answer = await trio.to_thread.run_sync(ask_running, self._file, "reload")
        self.tell(f"{turn + 1} of {self.reloads}: {answer['faults'] or answer['generation']}")
        if answer["done"] is is_broken:
            self.faults.append(f"reload {turn + 1}: {answer}")
        elif is_broken and not any(word in fault for fault in answer["faults"]):
            self.faults.append(f"reload {turn + 1}: {answer['faults']} do not name {word}")
        if answer["done"]:
            self._number = number
            self._policies[answer["generation"]] = number
        return not answer["done"]

    async def _drain(self, devices: list[Device]) -> None:
        with trio.move_on_after(PATIENCE) as patience:
            await until(lambda: not any(device.session.outgoing for device in devices) and not any(self.ledger.missing))
        if patience.cancelled_caught:
            self.faults.append("not everything arrived in time")

    async def _look_back(self, proxy: RunningProxy, devices: list[Device]) -> None:
        await trio.to_thread.run_sync(proxy.check_unharmed)
        for device in devices:
            self._look_at(device.client_id, device.connections, device.errors)
        for broker in self.brokers:
            self._look_at(broker.name, broker.connections, [*broker.errors, *broker.mixtures[:5]])
        await trio.to_thread.run_sync(proxy.stop)
        self._look_at_trail()

    def _look_at(self, name: str, connections: int, errors: list[str]) -> None:
        if connections != 1:
            self.faults.append(f"{name} was connected {connections} times")
        self.faults += errors

    def _look_at_trail(self) -> None:
        """Each line of a decision names generation, policy, schema and destination: they must belong together."""
        for path in sorted((self.folder / "data" / "audit").glob("*.jsonl")):
            with path.open() as lines:
                for line in map(json.loads, lines):
                    if line["event"] == "decision" and not self._belongs_together(line):
                        self.faults.append(f"a mixture in the trail: {line}")

    def _belongs_together(self, line: dict[str, Any]) -> bool:
        number = self._policies.get(line["generation"], -1)
        return (line["policy"], line["schema"]) == (f"g{number}", f"{subject(number)}@1")


def check(outcome: Outcome) -> None:
    """Fail if a promise was broken."""
    report = outcome.report
    wrong = [*outcome.faults, *report.examples] if report.lost or report.ghosts or report.corrupted else outcome.faults
    assert not wrong, wrong[:10]
    assert not any(report.duplicated.values()), report.examples
    assert report.acknowledged == report.sent > 0


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=500, help="messages a second in all")
    parser.add_argument("--devices", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="keep data and logs here; by default they go")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or what was started would outlive this
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        outcome = trio.run(Run(folder, asked.reloads, asked.rate, asked.devices, tell=_tell).go)
    report = outcome.report
    _tell(
        f"{outcome.reloads} reloads, {outcome.refused} of them broken and refused; {report.sent} messages sent, "
        f"{report.acknowledged} acknowledged, {report.lost} lost, {sum(report.duplicated.values())} twice, judged by "
        f"{outcome.generations_seen} generations"
    )
    try:
        check(outcome)
    except AssertionError as error:
        _tell(str(error))
        return 1
    return 0


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
