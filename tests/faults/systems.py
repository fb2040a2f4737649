"""What is killed: the proxy, or a Mosquitto bridge in its place, and the brokers behind. Real processes on loopback."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

from attrs import define, field

from tests.faults.receivers import Receiver
from tests.harness import RunningProxy, start_proxy, write_settings
from tests.ports import free_port
from tests.scenarios.contracts import route, upstream
from tests.scenarios.mosquitto import Mosquitto

# What helps Mosquitto most to keep what it has acknowledged: it writes its whole database when it saves, so each second
# is as often as it can; no bound drops anything. As many are in flight as the proxy has: without a bound Mosquitto is
# slower the more there are. Its links speak MQTT 3.1.1: as an MQTT 5 client it asks for no session expiry, so that the
# other side would forget its session with each connection.
BRIDGE: Final = """
max_inflight_messages 1000
{saves}
{connections}
"""
CONNECTION: Final = """
connection to-{name}
address 127.0.0.1:{port}
topic # out 2
cleansession false
bridge_protocol_version mqttv311
try_private false
notifications false
restart_timeout 1 1
"""
SAVES: Final = {"second": "autosave_interval 1", "change": "autosave_interval 1\nautosave_on_changes true"}
LINKS: Final = """
backoff_first = "100ms"
backoff_ceiling = "500ms"
breaker_open = "500ms"
"""


class System(Protocol):
    """Stands between devices and brokers, at one port, and can be killed."""

    name: str

    @property
    def port(self) -> int:
        """Where devices connect to."""

    @property
    def settings(self) -> str:
        """What it runs with, for whoever reads its figures."""

    def start(self) -> None:
        """Start it, also again; does not wait until it takes connections."""

    def kill(self) -> None:
        """End it as `kill -9` does."""

    def faults(self) -> list[str]:
        """Tell what it has said that it must not say."""


@define(eq=False)
class Proxy:
    """mqttproxy, started anew on the same data.

    Attributes:
        links: further settings of each upstream.
        running: its process; None: it was not started yet, or killed.

    """

    folder: Path
    brokers: Mapping[str, Mosquitto | Receiver]
    ack: str = "all"
    links: str = LINKS
    name: str = "mqttproxy"
    port: int = field(factory=free_port)
    running: RunningProxy | None = None
    _file: Path = field(init=False)
    _faults: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        tables = "".join(upstream(name, broker.url, self.links) for name, broker in self.brokers.items())
        tables += route("#", *self.brokers, more=f'ack = "{self.ack}"')
        self._file = write_settings(self.folder, tables)
        text = self._file.read_text()
        self._file.write_text(text.replace('bind = "127.0.0.1:0"', f'bind = "127.0.0.1:{self.port}"', 1))

    @property
    def settings(self) -> str:
        return f'ack = "{self.ack}"'

    def start(self) -> None:
        self.running = start_proxy(self._file)

    def kill(self) -> None:
        if self.running is not None:
            self._look()
            self.running.kill()
            self.running = None

    def faults(self) -> list[str]:
        self._look()
        return self._faults

    def _look(self) -> None:
        """Look for an error of ours in the log; the next start empties it."""
        running = self.running
        if running is None:
            return
        if running.process.poll() is not None:
            self._faults.append(f"ended by itself: {running.process.returncode}\n{running.tail()}")
        if b"Traceback" in (text := running.log_file.read_bytes()) or b'"internal_error"' in text:
            self._faults.append(running.tail())


@define(eq=False)
class Bridge:
    """Mosquitto with a bridge to each broker: the same work, as far as it goes."""

    folder: Path
    brokers: Mapping[str, Mosquitto | Receiver]
    saves: str = "second"
    name: str = "mosquitto bridge"
    _mosquitto: Mosquitto = field(init=False)

    def __attrs_post_init__(self) -> None:
        links = "".join(CONNECTION.format(name=name, port=broker.port) for name, broker in self.brokers.items())
        self._mosquitto = Mosquitto(self.folder, BRIDGE.format(saves=SAVES[self.saves], connections=links))

    @property
    def port(self) -> int:
        return self._mosquitto.port

    @property
    def settings(self) -> str:
        lines = (self.folder / "mosquitto.conf").read_text().splitlines()
        return "; ".join(line for line in lines if line and str(self.folder) not in line)

    def start(self) -> None:
        self._mosquitto.start()

    def kill(self) -> None:
        self._mosquitto.kill()

    def faults(self) -> list[str]:
        return [] if self._mosquitto.is_running else ["the bridge has ended by itself"]


def start_brokers(folder: Path, count: int, stack: ExitStack) -> dict[str, Mosquitto]:
    """Start so many brokers, which end with the stack.

    Mosquitto has what it acknowledges in memory, and on disk only later: after a kill it would not have it, and nobody
    in front of it can help that. So each is asked to save once, when only its ear is known to it, and never again:
    started anew it knows its ear and nothing of the proxy, which sends again what is not over. The ear takes everything
    at QoS 0: each message is in its socket before Mosquitto acknowledges it, and a socket outlives a kill.
    """
    brokers = {f"up{number}": Mosquitto(folder / f"up{number}", "autosave_interval 0\n") for number in range(count)}
    for broker in brokers.values():
        stack.callback(broker.kill)
        broker.start()
    return brokers
