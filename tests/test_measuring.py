"""What the process measures of itself, and what comes of it."""

import threading
from pathlib import Path

import pytest
import trio

from mqttproxy.limiting.overload import Level, Measures
from mqttproxy.measuring import Measuring, memory_limit, read_process
from tests.steering.proxies import open_proxy, text, write


def group(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_the_limit_is_that_of_the_control_group_or_the_machines_memory(tmp_path: Path) -> None:
    machine = {"proc__meminfo": "MemTotal:  1000 kB\nMemFree: 1 kB\n"}
    own = {"proc__self__cgroup": "0::/a/b\n"}
    assert memory_limit(tmp_path) is None
    assert memory_limit(group(tmp_path, **machine)) == 1_024_000
    groups = tmp_path / "sys/fs/cgroup"
    (groups / "a/b").mkdir(parents=True)
    (groups / "memory.max").write_text("max\n")
    assert memory_limit(group(tmp_path, **own)) == 1_024_000
    (groups / "a/b/memory.max").write_text("5000\n")
    assert memory_limit(tmp_path) == 5000
    (groups / "a/b/memory.max").unlink()
    (groups / "memory").mkdir()
    (groups / "memory/memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    assert memory_limit(tmp_path) == 1_024_000


def test_the_process_is_measured(tmp_path: Path) -> None:
    found = read_process(tmp_path, 2**34)
    assert found.memory is not None
    assert 0 < found.memory < 1
    assert found.descriptors is not None
    assert 0 < found.descriptors < 1
    assert found.disk_free is not None
    assert found.disk_free > 0
    assert read_process(tmp_path / "gone").disk_free is None


async def test_readiness_health_and_metrics_tell_level_and_reason(tmp_path: Path) -> None:
    write(tmp_path, text())
    async with open_proxy(tmp_path) as proxy:
        measures = Measures(memory=0.95)
        measuring = Measuring(proxy, lambda _: measures)
        limited = proxy.door.premises.limited
        for level in (1, 2):
            await measuring.look(0.0)
            assert limited.overload_level == level
            ready, document = proxy.health.ready()
            report = document["components"]["overload"]  # type: ignore[index] # a document
            assert report["ok"] is False
            assert report["gates"] == ("ready" if level >= Level.CONNECTIONS else "nothing")
            assert "95% of the memory is in use" in report["reason"]
            assert ready is (level < Level.CONNECTIONS)
        assert limited.overload_pressure["memory"] == pytest.approx(1.056)
        assert limited.overload_rises == 2
        measures = Measures(memory=0.1)
        for _ in range(6):
            await measuring.look(0.0)
        assert limited.overload_level == 0
        assert proxy.health.ready()[0] is True


async def test_a_late_loop_and_a_slow_commit_are_measured_but_not_a_disk_that_fails(tmp_path: Path) -> None:
    write(tmp_path, text())
    async with open_proxy(tmp_path) as proxy:
        measuring = Measuring(proxy, lambda _: Measures())
        limited, journal = proxy.door.premises.limited, proxy.keeping.journal
        await measuring.look(0.25)
        assert limited.overload_pressure["loop_delay"] == 0.5
        journal._began = trio.current_time() - 20
        await measuring.look(0.0)
        assert limited.overload_pressure["commit"] == pytest.approx(2.0, abs=0.1)
        assert limited.overload_level == 1
        journal.trouble = "the disk is full"
        for _ in range(3):
            await measuring.look(0.0)
        assert "commit" not in limited.overload_pressure
        journal._began = journal.trouble = None
        assert limited.overload_level == 0


async def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, text())
    ends = threading.Event()

    def hang(_: Path) -> Measures:
        ends.wait(30)
        return Measures()

    async with open_proxy(tmp_path) as proxy:
        monkeypatch.setattr("mqttproxy.measuring.EVERY", 0.05)
        measuring = Measuring(proxy, hang)
        with trio.fail_after(5):
            await measuring.look(0.6)
            await measuring.look(0.6)
        assert proxy.door.premises.limited.overload_level == 2
        ends.set()
