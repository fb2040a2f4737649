import sys
import threading

import pytest
import trio
from trio._core._thread_cache import ThreadCache
from trio.testing import MockClock

from mqttproxy.apart import NO_THREAD, InThread, open_apart, run_apart


@pytest.fixture
def module(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "errand.py").write_text(
        "import os, sys, time\n"
        "if __name__ == '__main__':\n"
        "    sys.stderr.write(f'{sys.argv[1:]} {os.getcwd()}')\n"
        "    if sys.argv[1] == 'wait': time.sleep(1000)\n"
        "    sys.exit(int(sys.argv[1]))\n"
    )
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return "errand"


async def test_a_module_is_run_as_a_program_and_its_words_come_back(module: str) -> None:
    done = await run_apart(module, "7", "a b", seconds=30)
    assert done.returncode == 7
    assert done.stderr.startswith(b"['7', 'a b'] ")
    assert done.stdout == b""


async def test_what_lies_in_the_folder_that_it_is_started_in_is_not_run(
    module: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path_factory.mktemp("trap")
    (trap / f"{module}.py").write_text("raise SystemExit(99)")
    monkeypatch.chdir(trap)
    assert (await run_apart(module, "0", seconds=30)).returncode == 0


async def test_X32_what_takes_too_long_is_ended(module: str) -> None:
    with pytest.raises(trio.TooSlowError):
        await run_apart(module, "wait", seconds=0.1)


async def test_what_cannot_be_started_is_told(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError):
        await run_apart(module, "0", seconds=30)


async def test_X24_a_process_for_whose_start_there_is_no_thread_is_a_lack_as_any_other(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_to_start(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("trio.to_thread.run_sync", fail_to_start)
    with pytest.raises(OSError, match="can't start new thread"):
        await run_apart(module, "0", seconds=30)
    with pytest.raises(OSError, match="can't start new thread"):
        await open_apart(module, "0")


class TestInThread:
    async def test_what_it_gives_and_raises_comes_back(self) -> None:
        limiter, in_thread = trio.CapacityLimiter(1), InThread()
        assert await in_thread(lambda: 7, abandon_on_cancel=False, limiter=limiter) == 7
        with pytest.raises(RuntimeError, match="mine"):
            await in_thread(fail, abandon_on_cancel=False, limiter=limiter)
        assert in_thread.waits == 0

    @pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
    async def test_X24_where_no_thread_can_be_started_it_waits_for_one(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
    ) -> None:
        limiter, in_thread = trio.CapacityLimiter(1), InThread()
        start, left = threading.Thread.start, [error] * 3

        def start_or_not(thread: threading.Thread) -> None:
            if left:
                raise left.pop()
            start(thread)

        monkeypatch.setattr("trio._core._thread_cache.THREAD_CACHE", ThreadCache())  # it has none that are idle
        monkeypatch.setattr(threading.Thread, "start", start_or_not)
        began = trio.current_time()
        assert await in_thread(lambda: 7, abandon_on_cancel=True, limiter=limiter) == 7
        assert (in_thread.waits, left) == (3, [])
        assert trio.current_time() - began >= 3 * NO_THREAD
        assert limiter.borrowed_tokens == 0


def fail() -> None:
    raise RuntimeError("mine")
