"""What the process measures of itself, and what comes of it."""

import threading
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from mqttproxy.limiting.overload import Level, Measures
from mqttproxy.measuring import EVERY, Measuring, memory_limit, own_delay, read_process
from mqttproxy.telemetry.logs import RateLimited
from tests.steering.proxies import open_proxy, text, write

AT_ONCE = '[overload]\nsustained = "0s"\n'


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
    (groups / "a/memory.max").write_text("4000\n")
    assert memory_limit(tmp_path) == 4000
    for name in ("a", "a/b"):
        (groups / name / "memory.max").unlink()
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
    assert found.disk_size is not None
    assert 0 < found.disk_free <= found.disk_size
    assert read_process(tmp_path / "gone").disk_free is None


@pytest.mark.parametrize(
    ("delay", "computed", "expected"),
    [
        (4.0, 0.05, 0.04),  # a process at rest on a machine that others keep busy
        (4.0, 0.0, 0.0),  # one that was stopped, or slept with the machine
        (4.0, 5.0, 4.0),  # one that has done nothing but compute
        (4.0, 7.5, 4.0),  # and some threads with it
        (4.0, 1.0, 0.8),  # the same with a fifth of a processor: it would have been late by 0.8 s with a whole one
        (-0.001, 0.5, 0.0),
    ],
)
def test_a_delay_counts_as_far_as_the_process_itself_was_computing(
    delay: float, computed: float, expected: float
) -> None:
    assert own_delay(delay, computed, EVERY + delay) == pytest.approx(expected)


async def test_a_machine_that_others_keep_busy_sheds_nothing_and_its_own_work_does(tmp_path: Path) -> None:
    write(tmp_path, text(AT_ONCE))
    async with open_proxy(tmp_path) as proxy:
        measuring, limited = Measuring(proxy, lambda _: Measures()), proxy.door.premises.limited
        for _ in range(20):  # each timer is 5 s late, and the process computed for half a second
            await measuring.look(own_delay(5.0, 0.5, EVERY + 5.0))
        assert limited.overload_level == 0
        assert 0 < limited.overload_pressure["loop_delay"] < 1
        await measuring.look(own_delay(5.0, 6.0, EVERY + 5.0))
        assert limited.overload_level == 1


@pytest.mark.parametrize("is_own", [False, True])
async def test_a_loop_that_is_held_up_is_noticed_if_the_process_computes_meanwhile(
    is_own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mqttproxy.measuring.EVERY", 0.05)
    write(tmp_path, text())
    async with open_proxy(tmp_path) as proxy, trio.open_nursery() as nursery:
        seen: list[float] = []
        looked = trio.Event()
        measuring = Measuring(proxy, lambda _: Measures(), time.monotonic if is_own else lambda: 0.0)
        look = measuring.look

        async def noted(delay: float) -> None:
            nonlocal looked
            await look(delay)
            seen.append(proxy.door.premises.limited.overload_pressure["loop_delay"])
            looked.set()
            looked = trio.Event()

        monkeypatch.setattr(measuring, "look", noted)
        nursery.start_soon(measuring.run)
        await trio.testing.wait_all_tasks_blocked()
        time.sleep(0.4)  # noqa: ASYNC251 # that is what is to be noticed
        with trio.fail_after(10):
            for _ in range(2):  # one look may have been on already
                await looked.wait()
        assert (max(seen) > 0.2) is is_own
        nursery.cancel_scope.cancel()


async def test_it_can_be_turned_off_and_measures_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, text("[overload]\nenabled = false\n"))
    async with open_proxy(tmp_path) as proxy:
        measuring, limited = Measuring(proxy, lambda _: Measures(memory=0.99)), proxy.door.premises.limited
        for _ in range(5):
            await measuring.look(0.0)
        assert limited.overload_level == 0
        assert limited.overload_pressure["memory"] == pytest.approx(1.1)


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
    write(tmp_path, text(AT_ONCE))
    async with open_proxy(tmp_path) as proxy:
        measuring = Measuring(proxy, lambda _: Measures())
        limited, journal = proxy.door.premises.limited, proxy.keeping.journal
        await measuring.look(0.5)
        assert limited.overload_pressure["loop_delay"] == 0.5
        journal._began = trio.current_time() - 20
        await measuring.look(0.0)
        assert limited.overload_pressure["commit"] == pytest.approx(2.0, abs=0.5)
        assert limited.overload_level == 1
        journal.trouble = "the disk is full"
        for _ in range(3):
            await measuring.look(0.0)
        assert "commit" not in limited.overload_pressure
        journal._began = journal.trouble = None
        assert limited.overload_level == 0


async def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, text(AT_ONCE))
    ends = threading.Event()

    def hang(_: Path) -> Measures:
        ends.wait(30)
        return Measures()

    async with open_proxy(tmp_path) as proxy:
        monkeypatch.setattr("mqttproxy.measuring.EVERY", 0.05)
        told: list[str] = []
        monkeypatch.setattr(RateLimited, "warning", lambda _, _key, event, **_facts: told.append(event))
        measuring = Measuring(proxy, hang)
        with trio.fail_after(5):
            await measuring.look(1.2)
            await measuring.look(1.2)
        assert proxy.door.premises.limited.overload_level == 2
        assert told == ["measuring_failed"] * 2
        ends.set()


async def test_that_nothing_can_be_measured_for_want_of_memory_ends_nothing(tmp_path: Path) -> None:
    def fail(_: Path) -> Measures:
        raise MemoryError

    write(tmp_path, text())
    async with open_proxy(tmp_path) as proxy:
        measuring = Measuring(proxy, fail)
        await measuring.look(bound := proxy.config.overload.loop_delay / 2)
        assert proxy.door.premises.limited.overload_pressure["loop_delay"] == pytest.approx(bound / (2 * bound))
        assert "memory" not in proxy.door.premises.limited.overload_pressure
