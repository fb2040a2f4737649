"""Bans of a running proxy: asked over its socket, felt by its devices, kept over a restart."""

from pathlib import Path
from typing import Any

import pytest
import trio

from mqttproxy.cli.running import ask_running
from mqttproxy.steering import banning
from mqttproxy.transport.dial import dial
from tests.steering.proxies import CONNECT, audit, connect, open_proxy, text, write

BANNED_311 = b"\x20\x02\x00\x05"


async def ask(folder: Path, do: str, **more: Any) -> dict[str, Any]:
    return await trio.to_thread.run_sync(lambda: ask_running(folder / "proxy.toml", "ban", do=do, **more))


async def answer_to(proxy: Any, client_id: bytes = b"d") -> bytes:
    (listener,) = proxy.door.listeners
    stream = await dial(f"mqtt://127.0.0.1:{listener.port}")
    stream.send_nowait(CONNECT % client_id)
    answer = bytes(await stream.receive())
    stream.abort()
    return answer


@pytest.mark.parametrize(
    ("kind", "value"), [("client", "d"), ("address", "127.0.0.1"), ("address", "127.0.0.0/8"), ("address", "0.0.0.0/0")]
)
async def test_a_ban_ends_connections_at_once_and_outlives_a_restart(kind: str, value: str, tmp_path: Path) -> None:
    write(tmp_path, text())
    async with open_proxy(tmp_path) as proxy:
        device = await connect(proxy)
        answer = await ask(tmp_path, "add", kind=kind, value=value, reason="it floods", seconds=3600)
        assert (answer["done"], answer["ended"]) == (True, 1)
        with trio.fail_after(1):
            assert bytes(await device.receive()) == b""
        device.abort()
        assert await answer_to(proxy) == BANNED_311
        line = next(line for line in audit(proxy) if line["event"] == "ban")
        assert (line["action"], line["kind"], line["reason"]) == ("added", kind, "it floods")
        assert "process " in line["who"]
    async with open_proxy(tmp_path) as proxy:
        assert await answer_to(proxy) == BANNED_311
        (told,) = (await ask(tmp_path, "list"))["bans"]
        assert (told["kind"], told["reason"], told["source"]) == (kind, "it floods", "command")
        assert told["until"] == pytest.approx(told["since"] + 3600)
        (refused,) = (await ask(tmp_path, "refused"))["refused"]
        assert (refused["client_id"], refused["reason"], refused["words"]) == ("d", "banned", "banned: it floods")
        assert (await ask(tmp_path, "remove", kind=kind, value=value))["done"] is True
        (await connect(proxy)).abort()
    async with open_proxy(tmp_path) as proxy:
        assert (await ask(tmp_path, "list"))["bans"] == []


async def test_flapping_bans_are_in_the_same_list_and_can_be_lifted(tmp_path: Path) -> None:
    write(tmp_path, text("[limits]\nflapping_connects = 1\n"))
    async with open_proxy(tmp_path) as proxy:
        (await connect(proxy)).abort()
        assert await answer_to(proxy) == BANNED_311
        (told,) = (await ask(tmp_path, "list"))["bans"]
        assert (told["kind"], told["value"], told["source"], told["author"]) == ("client", "d", "flapping", "mqttproxy")
        assert told["reason"] == "more than 1 connections within 60 s"
        assert (await ask(tmp_path, "remove", kind="client", value="d"))["done"] is True
        assert (await ask(tmp_path, "list"))["bans"] == []
        (await connect(proxy)).abort()


async def test_a_damaged_file_is_set_aside_and_told_and_what_is_whole_is_in_force(tmp_path: Path) -> None:
    write(tmp_path, text())
    async with open_proxy(tmp_path) as proxy:
        for name in ("d", "e"):
            await ask(tmp_path, "add", kind="client", value=name, reason="why")
    file = tmp_path / "data" / banning.FILE
    damaged = file.read_bytes()[5:]
    file.write_bytes(damaged)
    async with open_proxy(tmp_path) as proxy:
        assert [one["value"] for one in (await ask(tmp_path, "list"))["bans"]] == ["e"]
        (aside,) = file.parent.glob(f"{banning.FILE}.damaged-*")
        assert aside.read_bytes() == damaged
        report = proxy.health.ready()[1]["components"]["bans"]  # type: ignore[index] # a document
        assert (report["ok"], report["gates"]) == (False, "nothing")
        assert "1 lines of bans.jsonl were damaged" in report["reason"]


async def test_who_was_banned_stays_out_when_the_list_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, text())
    (tmp_path / "data" / banning.FILE).mkdir(parents=True)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_proxy(tmp_path):
            raise AssertionError("it has started")
    assert caught.group_contains(IsADirectoryError)


async def test_what_cannot_be_written_is_told_and_nobody_comes_in_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write(tmp_path, text())
    async with open_proxy(tmp_path) as proxy:
        await ask(tmp_path, "add", kind="client", value="kept", reason="why")
        monkeypatch.setattr(banning, "write_whole", full)
        answer = await ask(tmp_path, "add", kind="client", value="d", reason="why")
        assert answer["faults"] == ["in force until the proxy ends, but not written: no space left on device"]
        assert await answer_to(proxy) == BANNED_311
        answer = await ask(tmp_path, "remove", kind="client", value="kept")
        assert answer["faults"] == ["the ban stays: it could not be written that it is lifted: no space left on device"]
        assert [one["value"] for one in (await ask(tmp_path, "list"))["bans"]] == ["kept", "d"]


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"do": "x"}, "a command on bans is one of add, remove, list, refused"),
        ({"do": "add", "kind": "x", "value": "y"}, "a ban is of client, username, address, and of a text"),
        ({"do": "add", "kind": "address", "value": "y"}, "'y': no address that can be banned"),
        ({"do": "add", "kind": "client", "value": "y"}, "a ban has a reason of at most 1024 characters"),
        (
            {"do": "add", "kind": "client", "value": "y", "reason": "r", "seconds": -1},
            "a ban is for ever, or for some seconds",
        ),
        ({"do": "remove", "kind": "client", "value": "y"}, "client 'y' is not banned"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_told(asked: dict[str, Any], fault: str, tmp_path: Path) -> None:
    write(tmp_path, text())
    async with open_proxy(tmp_path):
        answer = await ask(tmp_path, **asked)
        assert (answer["done"], answer["faults"]) == (False, [fault])
