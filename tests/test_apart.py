import sys

import pytest
import trio

from mqttproxy.apart import run_apart


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
