"""What is asked over the socket, and what is answered."""

from pathlib import Path
from typing import Any

import pytest
import trio

from mqttproxy.cli.running import ask_running
from mqttproxy.steering import Control
from mqttproxy.transport.local import CONTROL, ask_local
from tests.steering.proxies import LISTENER, audit, connect, open_proxy, text, write


async def ask(folder: Path, command: str, **more: Any) -> dict[str, Any]:
    file = folder / "proxy.toml"
    return await trio.to_thread.run_sync(lambda: ask_running(file, command, **more))


async def test_status_says_what_is_in_force(tmp_path: Path) -> None:
    path = write(tmp_path, text())
    async with open_proxy(tmp_path):
        assert await ask(tmp_path, "status") == {
            "done": True,
            "faults": [],
            "generation": 1,
            "file": str(path),
            "file_differs": False,
            "on_trial": None,
        }


async def test_who_asked_is_in_the_trail(tmp_path: Path) -> None:
    write(tmp_path, text())
    async with open_proxy(tmp_path) as proxy:
        answer = await ask(tmp_path, "reload")
        assert (answer["done"], answer["generation"], answer["needs_restart"]) == (True, 2, [])
        assert "process " in audit(proxy)[-1]["who"]


async def test_a_plan_says_who_would_feel_it_and_does_nothing(tmp_path: Path) -> None:
    write(tmp_path, text(listeners=LISTENER.format("stays", 0) + LISTENER.format("goes", 0)))
    async with open_proxy(tmp_path) as proxy:
        device = await connect(proxy, "goes")
        device.send_nowait(b"\x82\x06\x00\x01\x00\x01t\x00")
        await device.receive()
        upstream = '[[upstreams]]\nname = "a"\nurl = "mqtt://127.0.0.1:1"\n'
        new = text(upstream, anonymous=False, listeners=LISTENER.format("stays", 0))
        answer = await ask(tmp_path, "plan", text=new, called="new.toml")
        assert answer["touched"] == {
            "listeners": {"goes": {"devices_sent_away": 1}},
            "upstreams": {},
            "sessions_moved": 1,
        }
        keys = [change["key"] for change in answer["difference"]["changes"]]
        assert keys == ["listeners[goes]", "access.allow_anonymous", "upstreams[a]"]
        assert proxy.metrics.generation == 1
        answer = await ask(tmp_path, "plan", text="[", called="new.toml")
        assert answer["done"] is False
        assert answer["faults"][0].startswith("new.toml: line 1")
        device.abort()


async def test_what_waits_for_an_upstream_that_would_go_is_counted(tmp_path: Path) -> None:
    write(tmp_path, text('[[upstreams]]\nname = "a"\nurl = "mqtt://127.0.0.1:1"\n'))
    async with open_proxy(tmp_path) as proxy:
        device = await connect(proxy)
        device.send_nowait(b"\x32\x06\x00\x01t\x00\x01x")
        assert bytes(await device.receive()) == b"\x40\x02\x00\x01"
        answer = await ask(tmp_path, "plan", text=text(), called="new.toml")
        assert answer["touched"]["upstreams"] == {"a": {"removed": True, "messages_waiting": 1}}
        device.abort()


@pytest.mark.parametrize("request_", [b"nonsense", b"[]", b"{}", b'{"command": "bogus"}', b'"reload"', b"\xff"])
async def test_what_is_no_request_is_answered_so(request_: bytes, tmp_path: Path) -> None:
    write(tmp_path, text())
    async with open_proxy(tmp_path) as proxy:
        answer = await trio.to_thread.run_sync(ask_local, tmp_path / "data", CONTROL, request_)
        assert b'"done":false' in answer
        assert proxy.metrics.generation == 1


async def test_without_a_socket_the_proxy_goes_on(tmp_path: Path, nursery: trio.Nursery) -> None:
    write(tmp_path, text())
    async with open_proxy(tmp_path) as proxy:
        (tmp_path / "data" / CONTROL).unlink()
        (tmp_path / "data" / CONTROL).mkdir()
        await nursery.start(Control(proxy, proxy.steering).run)
        (await connect(proxy)).abort()
