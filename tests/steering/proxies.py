"""The whole proxy in this process, without signals: its rooms are open, its door too, and its steering is called."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final

import orjson
import trio
import trio.testing
from attrs import evolve

from mqttproxy.app import Proxy
from mqttproxy.config.load import config_of
from mqttproxy.outside import REAL
from mqttproxy.reload import digest_of
from mqttproxy.steering import Cause, Control, Records, Resumed, resume
from mqttproxy.transport.dial import dial
from mqttproxy.transport.stream import ByteStream
from tests.fake_rooms import FakeLog

ME: Final = Cause("command", "me")
CONNECT: Final = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01%b"
HEAD: Final = """
[proxy]
data_dir = "data"
drain_grace = "100ms"
[access]
allow_anonymous = {anonymous}
[telemetry]
metrics_bind = ""
sys_interval = 0
"""
LISTENER: Final = """
[[listeners]]
name = "{0}"
bind = "127.0.0.1:{1}"
"""


async def _checked(*_arguments: str, seconds: float) -> CompletedProcess[bytes]:
    await trio.lowlevel.checkpoint()
    assert seconds
    return CompletedProcess([], 0, b"", b"")


OUTSIDE: Final = evolve(REAL, run_apart=_checked, configure_logging=lambda *_: None)


def text(more: str = "", *, anonymous: bool = True, listeners: str = LISTENER.format("tcp", 0)) -> str:
    return HEAD.format(anonymous=str(anonymous).lower()) + listeners + more


def write(folder: Path, content: str) -> Path:
    path = folder / "proxy.toml"
    path.write_text(content)
    return path


@asynccontextmanager
async def open_proxy(folder: Path) -> AsyncIterator[Proxy]:
    """Begin as `run_proxy` does, from `proxy.toml` in a folder and what is in its data folder; end at once."""
    path = folder / "proxy.toml"
    (folder / "data").mkdir(exist_ok=True)
    resumed = await resumed_from(folder)
    proxy = Proxy(path, resumed.config, resumed.ruleset, dry_run=False, outside=OUTSIDE)
    proxy.log = FakeLog()  # what commands print stands alone on stdout
    proxy.go_on(resumed)
    async with trio.open_nursery() as background:
        await proxy.open_rooms(background)
        await proxy.door.open(proxy.config.listeners)
        background.start_soon(proxy.door.run)
        background.start_soon(proxy.steering.end_trials)
        await background.start(Control(proxy, proxy.steering).run)
        await trio.testing.wait_all_tasks_blocked()
        yield proxy
        background.cancel_scope.cancel()


async def resumed_from(folder: Path) -> Resumed:
    path = folder / "proxy.toml"
    data = path.read_bytes()
    config = config_of(data, str(path), path)
    return await resume(path, config, digest_of(data), Records(folder / "data"), OUTSIDE)


async def connect(proxy: Proxy, name: str = "tcp", client_id: bytes = b"d") -> ByteStream:
    """Connect a device to a listener; it must be let in."""
    listener = next(one for one in proxy.door.listeners if one.settings.name == name)
    stream = await dial(f"mqtt://127.0.0.1:{listener.port}")
    stream.send_nowait(CONNECT % client_id)
    assert bytes(await stream.receive()) == b"\x20\x02\x00\x00"
    return stream


def audit(proxy: Proxy) -> list[dict[str, Any]]:
    """Return what was audited, written or not."""
    directory = proxy.started_with.proxy.data_dir / "audit" / "audit.jsonl"
    on_disk = directory.read_bytes().splitlines() if directory.exists() else []
    return [orjson.loads(line) for line in (*on_disk, *proxy.audit._waiting)]
