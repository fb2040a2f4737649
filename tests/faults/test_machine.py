"""What the machine does to the proxy: a wrong clock, no more descriptors, no more memory, no processor."""

import errno
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from mqttproxy.measuring import EVERY
from tests.conformance.device import Server
from tests.conformance.packets import V5, Kind
from tests.faults.disk.load import Absent, Away, Held, Place
from tests.faults.disk.scene import opened
from tests.faults.forms import in_long_form
from tests.waiting import PATIENCE, wait_until

HOUR: Final = 3600.0
YEAR: Final = 365 * 86400.0
PING: Final = b"\xc0\x00"
TICKS: Final = os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("make", [Away, Held, *in_long_form(Absent)])
def test_X22_jumps_of_the_wall_clock_lose_nothing_and_disconnect_nobody(
    tmp_path: Path, make: Callable[[], Place]
) -> None:
    with opened(tmp_path, make(), "") as scene:
        sender = scene.sender()
        server = Server({"tcp": scene.proxy.port()})
        bystander = server.join(V5, keep_alive=2)
        sender.publish(10)
        for jump in (HOUR, 0, -HOUR, 0, 10 * YEAR, -10 * YEAR, 0):
            scene.faults.set_clock(jump)
            for _ in range(3):
                sender.publish(10)
                assert bystander.fence() == []
        server.close()
        scene.check()


def processor_seconds(pid: int) -> float:
    """Return how long a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def test_X23_without_descriptors_it_waits_at_rest_and_those_who_are_in_are_served(tmp_path: Path) -> None:
    place = Away()
    place.settings += "connections_per_address = 10000\n"
    with opened(tmp_path, place) as scene:
        sender = scene.sender()
        resource.prlimit(scene.proxy.pid, resource.RLIMIT_NOFILE, (256, 256))
        with ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(socket.create_connection(("127.0.0.1", scene.proxy.port()), timeout=PATIENCE))
            wait_until(lambda: scene.proxy.log("accept_failed"), "no descriptors")
            before, began = processor_seconds(scene.proxy.pid), time.monotonic()
            sender.publish(20)
            while time.monotonic() < began + 2.0:  # long enough to see that it is at rest
                sender.step(sender.sent, 0.1)
            share = (processor_seconds(scene.proxy.pid) - before) / (time.monotonic() - began)
            assert share < 0.5, f"busy: {share:.0%} of a processor"
            assert len(scene.proxy.log("accept_failed")) <= 3, "a line for each"
            # A failed fsync wants a new connection to the database, for which there may be no descriptor.
            scene.faults.fail("sync", errno.EIO, times=1)
            sender.step(sender.sent + 4, 0.1)
        sender.publish(4)
        with_door_open = scene.sender("late")
        with_door_open.publish(4)
        scene.check()


def uptime(pid: int) -> float:
    """Return for how many seconds a process has been running."""
    began = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / TICKS
    return float(Path("/proc/uptime").read_text().split()[0]) - began


@contextmanager
def little_memory(pid: int, way: str) -> Iterator[None]:
    """Let a process have hardly more memory than it has now."""
    if way == "address space":
        wait_until(lambda: uptime(pid) > 2 * EVERY, "its threads, each of which takes 8 MB")
        size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize() + 24 * 1024 * 1024
        resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
        yield
        return
    group = Path(f"/sys/fs/cgroup/memory/mqttproxy-{pid}")
    if not group.parent.is_dir():
        group = Path(f"/sys/fs/cgroup/mqttproxy-{pid}")
    try:
        group.mkdir()
        limits = [group / name for name in ("memory.limit_in_bytes", "memory.max") if (group / name).exists()]
        limits[0].write_text(str(64 * 1024 * 1024))
        (group / "cgroup.procs").write_text(str(pid))
    except (OSError, IndexError) as error:
        pytest.skip(f"NOT RUN: memory pressure in a control group, for want of root or of control groups: {error}")
    try:
        yield
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "an empty group")
        group.rmdir()


@pytest.mark.parametrize("way", ["address space", "control group"])
def test_X24_without_memory_it_ends_and_what_was_acknowledged_is_there(tmp_path: Path, way: str) -> None:
    with opened(tmp_path, Absent()) as scene:
        sender = scene.sender(padding=40_000, window=20)
        with little_memory(scene.proxy.pid, way):
            end = time.monotonic() + PATIENCE
            with suppress(OSError):  # cut off: it sheds, or has ended
                while scene.proxy.process.poll() is None:
                    assert sender.sent < 4000, "there was enough memory"
                    assert time.monotonic() < end, "it neither goes on nor ends"
                    sender.step(sender.sent + 20, 0.1)
            scene.proxy.kill()
        scene.check()
        sender.publish(10)


def test_X24_what_waits_in_the_spool_is_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    with opened(tmp_path, Away()) as scene:
        sender = scene.sender(padding=40_000, window=20)
        with little_memory(scene.proxy.pid, "address space"):
            sender.publish(1200, patience=3 * PATIENCE)  # 48 MB, and there are 24 MB more than it has now
            assert scene.proxy.process.poll() is None
            scene.proxy.kill()
        scene.check()


def test_X25_a_process_that_was_stopped_for_seconds_expires_nobody_who_has_spoken(tmp_path: Path) -> None:
    with opened(tmp_path, Away()) as scene:
        sender = scene.sender()
        server = Server({"tcp": scene.proxy.port()})
        devices = [server.join(V5, keep_alive=1) for _ in range(20)]
        scene.proxy.process.send_signal(signal.SIGSTOP)
        sender.step(8, 0.01)
        for _ in range(6):
            for device in devices:
                device.send(PING)
            time.sleep(0.5)  # twice the silence that each may keep is what this is about
        scene.proxy.process.send_signal(signal.SIGCONT)
        for device in devices:
            device.expect(Kind.PINGRESP)
            device.fence()
        sender.publish(8)
        server.close()
        scene.check()
