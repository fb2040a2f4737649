"""Files that are watched: what they become is put in force, and nothing else is done."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mqttproxy.app import Proxy
from mqttproxy.steering.watch import Places, fingerprint, watch
from tests.harness import write_certificates
from tests.steering.proxies import ME, audit, open_proxy, text, write

ON, OFF = text().replace("[proxy]", "[proxy]\nwatch = true"), text()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["mqttproxy.steering.watch"]
    monkeypatch.setattr(module, "SETTLE_MS", 100)
    monkeypatch.setattr(module, "STEP_MS", 20)
    monkeypatch.setattr(module, "LOOK_EVERY", 0.1)


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Proxy]:
    (folder / "schemas").mkdir(exist_ok=True)
    async with open_proxy(folder) as proxy, trio.open_nursery() as nursery:
        nursery.start_soon(watch, proxy, proxy.steering)
        await trio.sleep(0.5)  # nothing tells that the kernel watches
        yield proxy
        nursery.cancel_scope.cancel()


async def until(proxy: Proxy, holds: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not holds():
            await proxy.steering.changed.wait()


async def test_a_change_of_the_file_is_put_in_force_once(tmp_path: Path) -> None:
    write(tmp_path, ON)
    async with watched(tmp_path) as proxy:
        path = write(tmp_path, ON.replace("allow_anonymous = true", "allow_anonymous = false"))
        await until(proxy, lambda: proxy.metrics.generation == 2)
        assert proxy.door.premises.access.allow_anonymous is False
        assert (audit(proxy)[-1]["cause"], audit(proxy)[-1]["who"]) == ("watch", str(path))
        await trio.sleep(0.5)
        assert proxy.metrics.generation == 2


async def test_a_broken_file_is_refused_and_a_whole_one_put_in_force(tmp_path: Path) -> None:
    write(tmp_path, ON)
    async with watched(tmp_path) as proxy:
        write(tmp_path, ON + "[")
        await until(proxy, lambda: proxy.metrics.reload_failures == 1)
        new = tmp_path / "other"
        new.write_text(ON + "# whole again\n")
        new.replace(tmp_path / "proxy.toml")  # as editors do it
        await until(proxy, lambda: proxy.metrics.generation == 2)


async def test_a_schema_is_seen_and_what_is_none_of_ours_is_not(tmp_path: Path) -> None:
    write(tmp_path, ON)
    async with watched(tmp_path) as proxy:
        (tmp_path / "data" / "something").write_text("x")
        (tmp_path / "proxy.toml~").write_text("x")
        (tmp_path / "schemas" / ".1.json.swp").write_text("x")
        write(tmp_path, ON)  # the same text
        await trio.sleep(0.7)
        assert proxy.metrics.generation == 1
        (tmp_path / "schemas" / "a").mkdir()
        (tmp_path / "schemas" / "a" / "1.json").write_text("{}")
        await until(proxy, lambda: proxy.metrics.generation == 2)


async def test_a_certificate_that_is_replaced_is_put_in_force(tmp_path: Path) -> None:
    files = write_certificates(tmp_path / "tls")
    listener = '[[listeners]]\nname = "s"\nbind = "127.0.0.1:0"\ntransport = "tls"\n'
    listener += 'certificate = "tls/server.pem"\nprivate_key = "tls/server.key"\n'
    write(tmp_path, ON + listener)
    async with watched(tmp_path) as proxy:
        files.certificate.unlink()  # else the new one would be appended
        write_certificates(tmp_path / "tls")
        await until(proxy, lambda: proxy.metrics.generation == 2)
        assert "tls" in audit(proxy)[-1]["who"]


async def test_it_can_be_switched_on_and_off_by_a_reload(tmp_path: Path) -> None:
    write(tmp_path, OFF)
    async with watched(tmp_path) as proxy:
        write(tmp_path, ON)
        await trio.sleep(0.5)
        assert proxy.metrics.generation == 1
        await proxy.steering.reload(ME)
        await trio.sleep(0.5)
        write(tmp_path, OFF)
        await until(proxy, lambda: proxy.metrics.generation == 3)
        write(tmp_path, ON)
        await trio.sleep(0.5)
        assert proxy.metrics.generation == 3


async def test_where_the_kernel_does_not_tell_files_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    write(tmp_path, ON)
    async with watched(tmp_path) as proxy:
        write(tmp_path, ON + "# changed\n")
        await until(proxy, lambda: proxy.metrics.generation == 2)


def test_a_fingerprint_knows_what_matters(tmp_path: Path) -> None:
    file, schemas = tmp_path / "proxy.toml", tmp_path / "schemas"
    assert fingerprint(file, Places(schemas)) == {}
    (schemas / "a").mkdir(parents=True)
    (schemas / ".git").mkdir()
    for name in ("a/1.json", "a/.hidden", "a/1.json~", ".git/x"):
        (schemas / name).write_text("x")
    file.write_text("")
    assert list(fingerprint(file, Places(schemas))) == [str(file), str(schemas / "a" / "1.json")]
