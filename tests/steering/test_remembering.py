"""The list of refused clients over restarts."""

from pathlib import Path

import pytest
import trio

from mqttproxy.app import Proxy
from mqttproxy.steering import remembering
from tests.fake_rooms import FakeLog
from tests.steering.proxies import open_proxy, text, write
from tests.steering.test_banning import answer_to, ask

NOBODY = text(anonymous=False)


def logged(proxy: Proxy) -> list[str]:
    assert isinstance(proxy.log, FakeLog)
    return proxy.log.events()


async def told(folder: Path) -> list[tuple[object, ...]]:
    rows = (await ask(folder, "refused"))["refused"]
    return [tuple(row[key] for key in ("client_id", "reason", "rule", "times")) for row in rows]


async def test_who_was_refused_is_told_after_a_restart_too_and_counted_on(tmp_path: Path) -> None:
    write(tmp_path, NOBODY)
    async with open_proxy(tmp_path) as proxy:
        await answer_to(proxy)
        before = (await ask(tmp_path, "refused"))["refused"]
    file = tmp_path / "data" / remembering.FILE
    assert file.stat().st_mode & 0o777 == 0o600
    async with open_proxy(tmp_path) as proxy:
        assert (await ask(tmp_path, "refused"))["refused"] == before
        await answer_to(proxy)
        assert await told(tmp_path) == [("d", "not_authorized", "access", 2)]


async def test_it_is_written_now_and_then_for_a_process_may_end_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "EVERY", 0.02)
    write(tmp_path, NOBODY)
    file = tmp_path / "data" / remembering.FILE
    async with open_proxy(tmp_path) as proxy:
        await trio.sleep(0.1)
        assert not file.exists()  # there is nothing to say
        await answer_to(proxy)
        with trio.fail_after(10):
            while not file.exists():  # noqa: ASYNC110 # a thread writes it
                await trio.sleep(0.01)
        assert b'"client_id": "d"' in file.read_bytes()


async def test_a_file_that_is_damaged_or_cannot_be_read_is_told_and_holds_nobody_up(tmp_path: Path) -> None:
    write(tmp_path, NOBODY)
    async with open_proxy(tmp_path) as proxy:
        for name in (b"d", b"e"):
            await answer_to(proxy, name)
    file = tmp_path / "data" / remembering.FILE
    file.write_bytes(file.read_bytes()[5:])
    async with open_proxy(tmp_path) as proxy:
        assert [row[0] for row in await told(tmp_path)] == ["e"]
        assert "refused_clients_damaged" in logged(proxy)
        await answer_to(proxy)
    file.unlink()
    file.mkdir()
    async with open_proxy(tmp_path) as proxy:
        assert await told(tmp_path) == []
        assert "refused_clients_unreadable" in logged(proxy)


async def test_a_disk_that_takes_nothing_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    def full(*_: object) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(remembering, "write_whole", full)
    monkeypatch.setattr(remembering, "EVERY", 0.02)
    write(tmp_path, NOBODY)
    async with open_proxy(tmp_path) as proxy:
        await answer_to(proxy)
        with trio.fail_after(10):
            while tries < 3:  # noqa: ASYNC110 # a thread tries
                await trio.sleep(0.01)
        await trio.sleep(0.1)
        assert tries == 3
