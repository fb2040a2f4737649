"""mqttproxy/transport/local.py: a socket in a folder, for one question and one answer."""

import os
import socket
import stat
from pathlib import Path

import pytest
import trio

from mqttproxy.transport import local
from mqttproxy.transport.local import Caller, ask_local, bind_local, serve_local
from mqttproxy.transport.stream import TransportError


async def upper(request: bytes, caller: Caller) -> bytes:
    await trio.lowlevel.checkpoint()
    assert caller == Caller(os.getpid(), os.getuid())
    return request.strip().upper()


async def ask(folder: Path, request: bytes) -> bytes:
    return await trio.to_thread.run_sync(ask_local, folder, "s", request)


async def test_a_question_is_answered_and_the_kernel_says_who_asks(tmp_path: Path, nursery: trio.Nursery) -> None:
    nursery.start_soon(serve_local, bind_local(tmp_path, "s"), upper)
    assert await ask(tmp_path, b"hello") == b"HELLO\n"
    large = b"x" * 1_000_000
    assert await ask(tmp_path, large) == large.upper() + b"\n"
    assert str(Caller(7, 1000)) == "user 1000, process 7"


async def test_G6_only_the_owner_may_open_it_and_what_a_killed_process_left_is_replaced(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bind_local(tmp_path, "s").close()
    mode = (tmp_path / "s").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    with pytest.raises(TransportError, match="connection refused"):
        await ask(tmp_path, b"anybody?")
    nursery.start_soon(serve_local, bind_local(tmp_path, "s"), upper)
    assert await ask(tmp_path, b"x") == b"X\n"


async def test_a_folder_with_a_long_name_is_no_trouble(tmp_path: Path, nursery: trio.Nursery) -> None:
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    nursery.start_soon(serve_local, bind_local(folder, "s"), upper)
    assert await ask(folder, b"x") == b"X\n"


async def test_nobody_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="no such file"):
        await ask(tmp_path, b"x")
    with pytest.raises(TransportError, match="no such file"):
        bind_local(tmp_path / "none", "s")


async def test_callers_that_say_nothing_or_go_away_are_nothing_to_the_others(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(local, "AT_ONCE", 2)
    nursery.start_soon(serve_local, bind_local(tmp_path, "s"), upper)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for caller in silent:
        caller.connect(str(tmp_path / "s"))
    silent[0].close()
    silent[1].sendall(b"half")
    assert await ask(tmp_path, b"x") == b"X\n"
    for caller in silent:
        caller.close()


async def test_G6_a_request_without_end_is_dropped(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "LARGEST", 1000)
    nursery.start_soon(serve_local, bind_local(tmp_path, "s"), upper)
    with pytest.raises(TransportError):
        await ask(tmp_path, b"x" * 500_000)
    assert await ask(tmp_path, b"x") == b"X\n"


async def test_an_end_without_an_answer_is_told(tmp_path: Path, nursery: trio.Nursery) -> None:
    async def fail(_request: bytes, _caller: Caller) -> bytes:
        await trio.lowlevel.checkpoint()
        raise OSError("the caller cannot be answered")

    nursery.start_soon(serve_local, bind_local(tmp_path, "s"), fail)
    with pytest.raises(TransportError, match="ended before it had answered"):
        await ask(tmp_path, b"x")
