"""A disk that is full, that fails, that is slow: acknowledgements stop, nothing that was acknowledged is lost, and
the proxy heals by itself."""

import errno
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.device import Server
from tests.conformance.packets import V5, Kind, publish
from tests.faults.disk.load import Absent, Away, Held, Place, Sender
from tests.faults.disk.mounting import NotPossibleError, mounted_in_memory
from tests.faults.disk.scene import Scene, opened
from tests.faults.forms import in_long_form
from tests.waiting import wait_until

PING: Final = b"\xc0\x00"
HEALED_WITHIN: Final = 30.0  # seconds after the cause has ended, on a busy machine
# Both databases. Sessions of subscribers that are away share that of the spool, and its commits.
PLACES: Final = pytest.mark.parametrize("place", [Away, Held, *in_long_form(Absent)])


def unanswered(sender: Sender, count: int = 4, seconds: float = 0.5) -> None:
    """Publish without being acknowledged."""
    before = dict(sender.acknowledged)
    sender.step(sender.sent + count, 0.05)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sender.step(sender.sent, 0.05)
    assert sender.acknowledged == before, "acknowledged what is not on disk"


def check_trouble(scene: Scene, *words: str) -> None:
    """While the disk fails: nothing is acknowledged, and everything else goes on."""
    (sender,) = scene.senders
    unanswered(sender)
    scene.wait_unready(*words)
    assert scene.proxy.get("/health")[0] == 200
    assert scene.proxy.metrics()
    server = Server({"tcp": scene.proxy.port()})
    bystander = server.join(V5)
    bystander.subscribe("other/#", options=0)
    bystander.send(publish(V5, "other/x", b"1"))
    bystander.fence()
    server.close()


def check_healed(scene: Scene) -> None:
    (sender,) = scene.senders
    sender.publish(10, patience=HEALED_WITHIN)
    scene.wait_ready(HEALED_WITHIN)
    scene.check()


@PLACES
def test_X12_a_full_disk_stops_acknowledgements_and_nothing_else_and_heals_by_itself(
    tmp_path: Path, place: Callable[[], Place]
) -> None:
    with opened(tmp_path, place()) as scene:
        scene.sender(window=50, padding=2000).publish(20)
        scene.faults.fail("write", errno.ENOSPC, in_half=True, part=scene.place.part)
        check_trouble(scene, "full")
        scene.faults.heal()
        check_healed(scene)


@PLACES
def test_X13_after_a_failed_fsync_its_descriptor_is_never_trusted_again(
    tmp_path: Path, place: Callable[[], Place]
) -> None:
    with opened(tmp_path, place()) as scene:
        sender = scene.sender(padding=2000)
        sender.publish(20)
        for at in (1, 2):
            scene.faults.fail("sync", errno.EIO, at=at, times=1, part=scene.place.part)
            sender.publish(20, patience=HEALED_WITHIN)
            assert scene.faults.done == 1
            assert not scene.faults.repeated, "not even when it is closed"
        scene.check()


@PLACES
def test_X13_a_disk_that_goes_on_failing_is_told_and_heals(tmp_path: Path, place: Callable[[], Place]) -> None:
    with opened(tmp_path, place()) as scene:
        scene.sender(window=50, padding=2000).publish(20)
        scene.faults.fail("sync", errno.EIO, part=scene.place.part)
        check_trouble(scene, "disk I/O error")
        scene.faults.heal()
        check_healed(scene)


def test_X14_a_slow_disk_delays_acknowledgements_and_kicks_nobody(tmp_path: Path) -> None:
    with opened(tmp_path, Away()) as scene:
        sender = scene.sender()
        server = Server({"tcp": scene.proxy.port()})
        bystanders = [server.join(V5, keep_alive=1) for _ in range(5)]
        scene.faults.slow("sync", 2000)
        before = scene.proxy.metric("mqtt_proxy_connections_closed_total", reason="keep_alive_timeout")
        sender.step(8, 0.1)
        end = time.monotonic() + 4.5
        while time.monotonic() < end or len(sender.acknowledged) < sender.sent:
            for device in bystanders:
                device.send(PING)
                device.expect(Kind.PINGRESP)
            sender.step(sender.sent, 0.2)
        scene.faults.heal()
        assert scene.proxy.metric("mqtt_proxy_connections_closed_total", reason="keep_alive_timeout") == before
        server.close()
        sender.publish(8)
        scene.check()


def test_X12_a_full_disk_for_the_audit_trail_stops_no_device(tmp_path: Path) -> None:
    with opened(tmp_path, Held(), "[audit]\npayload = true\n") as scene:
        sender = scene.sender()
        scene.faults.fail("write", errno.ENOSPC, part="audit/")
        sender.publish(50)
        wait_until(lambda: scene.proxy.metric("mqtt_proxy_audit_trouble"), "the audit's trouble")
        scene.faults.heal()
        sender.publish(50)
        wait_until(lambda: not scene.proxy.metric("mqtt_proxy_audit_trouble"), "the end of it")
        scene.check()


@PLACES
def test_X12_a_file_system_without_room_is_waited_for(tmp_path: Path, place: Callable[[], Place]) -> None:
    """The real thing, where nothing at all can be written any more: not even the index of a log."""
    data = tmp_path / "proxy" / "data"
    data.mkdir(parents=True)
    try:
        with mounted_in_memory(data, "3m"), opened(tmp_path / "proxy", place()) as scene:
            sender = scene.sender(padding=20_000, window=20)
            while sender.sent < 400 and scene.readiness()[0]:
                sender.step(sender.sent + 20, 0.2)
            assert sender.sent < 400, "there was room enough"
            check_trouble(scene, "full", "No space left")
            subprocess.run(["mount", "-o", "remount,size=64m", str(data)], check=True)
            check_healed(scene)
    except NotPossibleError as error:
        pytest.skip(f"NOT RUN: a full file system, for want of root: {error}")
