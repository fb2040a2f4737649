"""Reload, apply, confirm, roll back: each whole or not at all, one at a time, told and audited."""

from pathlib import Path

import pytest
import trio

from mqttproxy.steering import steering
from tests.steering.proxies import LISTENER, ME, audit, connect, open_proxy, text, write

ANONYMOUS, STRICT = text(), text(anonymous=False)


def numbers(folder: Path) -> int:
    return int((folder / "data" / "generation").read_text())


class TestReload:
    async def test_a_reload_is_a_generation_with_a_number_and_a_line_in_the_trail(self, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            write(tmp_path, STRICT)
            outcome = await proxy.steering.reload(ME)
            assert (outcome.generation, outcome.done, outcome.needs_restart) == (2, True, ())
            assert proxy.door.premises.access.allow_anonymous is False
            assert (proxy.metrics.generation, proxy.metrics.reloads) == (2, 1)
            start, line = audit(proxy)
            assert (start["event"], start["generation"]) == ("start", 1)
            told = {key: line[key] for key in ("event", "outcome", "generation", "cause", "who", "faults")}
            assert told == {
                "event": "reload",
                "outcome": "done",
                "generation": 2,
                "cause": "command",
                "who": "me",
                "faults": [],
            }
            assert line["digest"] == proxy.digest

    async def test_on_a_fault_nothing_changes_and_the_reason_is_told_with_file_and_key(self, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            before = proxy.config, proxy.digest
            path = write(tmp_path, STRICT + "[limits]\nconnections = 0\n")
            outcome = await proxy.steering.reload(ME)
            (fault,) = outcome.faults
            assert fault.startswith(f"{path}: limits.connections: found 0")
            assert (proxy.config, proxy.digest) == before
            assert (proxy.metrics.generation, proxy.metrics.reload_failures) == (1, 1)
            assert audit(proxy)[-1]["outcome"] == "refused"
            assert audit(proxy)[-1]["faults"] == [fault]
            assert proxy.metrics.config_file_differs == 1

    async def test_what_is_read_at_start_only_is_told_until_the_restart(self, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            write(tmp_path, text('[limits]\nconnections = 7\n[spool]\ndurability = "process"\n'))
            outcome = await proxy.steering.reload(ME)
            assert outcome.needs_restart == ("limits.connections", "spool.durability")
            assert (await proxy.steering.reload(ME)).needs_restart == outcome.needs_restart
            write(tmp_path, ANONYMOUS)
            assert (await proxy.steering.reload(ME)).needs_restart == ()

    async def test_numbers_go_on_over_restarts(self, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            assert (await proxy.steering.reload(ME)).generation == 2
        async with open_proxy(tmp_path) as proxy:
            assert proxy.metrics.generation == 3
            assert (await proxy.steering.reload(ME)).generation == 4

    async def test_reloads_come_one_after_the_other(self, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(proxy.steering.reload, ME)
            assert proxy.metrics.generation == 6
            assert [line["generation"] for line in audit(proxy)] == [1, 2, 3, 4, 5, 6]

    async def test_a_process_that_is_ending_takes_nothing_more(self, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            proxy.ends_soon = True
            assert not (await proxy.steering.reload(ME)).done


class TestListeners:
    async def test_a_listener_is_added_and_another_drained_without_touching_the_third(self, tmp_path: Path) -> None:
        write(tmp_path, text(listeners=LISTENER.format("stays", 0) + LISTENER.format("goes", 0)))
        async with open_proxy(tmp_path) as proxy:
            stays, goes = await connect(proxy, "stays", b"s"), await connect(proxy, "goes", b"g")
            write(tmp_path, text(listeners=LISTENER.format("stays", 0) + LISTENER.format("new", 0)))
            outcome = await proxy.steering.reload(ME)
            assert outcome.listeners is not None
            assert (outcome.listeners.added, outcome.listeners.removed) == (("new",), ("goes",))
            new = await connect(proxy, "new", b"n")
            assert await goes.receive() == b""
            stays.send_nowait(b"\xc0\x00")
            assert bytes(await stays.receive()) == b"\xd0\x00"
            assert proxy.metrics.listening == {"stays": 1, "new": 1}
            assert proxy.door.connected() == {"stays": 1, "new": 1}
            for stream in (stays, goes, new):
                stream.abort()

    async def test_an_address_in_use_refuses_the_whole_reload(self, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            taken = trio.socket.socket()
            with taken:
                await taken.bind(("127.0.0.1", 0))
                taken.listen(1)
                listeners = LISTENER.format("tcp", 0) + LISTENER.format("new", taken.getsockname()[1])
                path = write(tmp_path, text(anonymous=False, listeners=listeners))
                (fault,) = (await proxy.steering.reload(ME)).faults
            assert fault.startswith(f"{path}: listeners[1].bind: found listener 'new'")
            assert "address already in use" in fault
            assert proxy.door.premises.access.allow_anonymous is True
            assert proxy.door.connected() == {"tcp": 0}
            (await connect(proxy)).abort()


class TestTrial:
    async def test_what_is_not_confirmed_in_time_is_rolled_back_by_itself(self, tmp_path: Path) -> None:
        path = write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            device = await connect(proxy)
            outcome = await proxy.steering.apply(STRICT.encode(), "new.toml", 0.3, ME)
            assert (outcome.done, outcome.generation) == (True, 2)
            assert proxy.door.premises.access.allow_anonymous is False
            assert path.read_text() == ANONYMOUS
            assert (proxy.metrics.generation_on_trial, proxy.metrics.config_file_differs) == (1, 1)
            with trio.fail_after(20):
                while proxy.steering.on_trial:
                    await proxy.steering.changed.wait()
            assert proxy.door.premises.access.allow_anonymous is True
            assert (proxy.metrics.generation, proxy.metrics.rollbacks) == (3, 1)
            assert (proxy.metrics.generation_on_trial, proxy.metrics.config_file_differs) == (0, 0)
            last = audit(proxy)[-1]
            assert (last["event"], last["cause"], last["generation"]) == ("rollback", "timer", 3)
            assert not (tmp_path / "data" / "trial.json").exists()
            assert await device.receive() == b"", "it came in as nobody, which was not allowed for a while"
            device.abort()
            (await connect(proxy)).abort()

    async def test_what_is_confirmed_is_the_file_from_then_on(self, tmp_path: Path) -> None:
        path = write(tmp_path, ANONYMOUS)
        path.chmod(0o640)
        async with open_proxy(tmp_path) as proxy:
            await proxy.steering.apply(STRICT.encode(), "new.toml", 300.0, ME)
            assert (await proxy.steering.confirm(ME)).done
            assert path.read_text() == STRICT
            assert path.stat().st_mode & 0o777 == 0o640
            assert proxy.steering.status()["on_trial"] is None
            assert proxy.steering.status()["file_differs"] is False
            assert proxy.metrics.generation == 2
        async with open_proxy(tmp_path) as proxy:
            assert proxy.door.premises.access.allow_anonymous is False
            assert proxy.steering.on_trial is None

    async def test_while_it_is_on_trial_nothing_else_is_put_in_force(self, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            await proxy.steering.apply(STRICT.encode(), "new.toml", 300.0, ME)
            for outcome in (
                await proxy.steering.reload(ME),
                await proxy.steering.apply(ANONYMOUS.encode(), "other.toml", None, ME),
            ):
                assert "generation 2 on trial until" in outcome.faults[0]
            assert (await proxy.steering.roll_back(ME)).done
            assert (await proxy.steering.reload(ME)).done

    async def test_a_file_that_was_changed_meanwhile_is_not_overwritten(self, tmp_path: Path) -> None:
        path = write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            await proxy.steering.apply(STRICT.encode(), "new.toml", 300.0, ME)
            path.write_text(ANONYMOUS + "# mine\n")
            outcome = await proxy.steering.confirm(ME)
            assert "another text than at the time of apply" in outcome.faults[0]
            assert path.read_text() == ANONYMOUS + "# mine\n"
            assert proxy.steering.on_trial is not None

    async def test_without_a_time_the_file_is_replaced_at_once(self, tmp_path: Path) -> None:
        path = write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            assert (await proxy.steering.apply(STRICT.encode(), "new.toml", None, ME)).done
            assert path.read_text() == STRICT
            assert proxy.steering.status()["file_differs"] is False

    @pytest.mark.parametrize("seconds", [None, 300.0])
    async def test_a_faulty_one_changes_neither_file_nor_force(self, seconds: float | None, tmp_path: Path) -> None:
        path = write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            missing = '[[upstreams]]\nname = "a"\nurl = "mqtt://127.0.0.1"\nusername = "u"\npassword_file = "none"\n'
            for content in ("[", STRICT + "[limits]\nconnections = 0\n", STRICT + missing):
                outcome = await proxy.steering.apply(content.encode(), "new.toml", seconds, ME)
                assert outcome.faults[0].startswith("new.toml: ")
            assert path.read_text() == ANONYMOUS
            assert proxy.metrics.generation == 1
            assert proxy.steering.on_trial is None
            assert list((tmp_path / "data").glob("*.toml")) == []
            assert not (tmp_path / "data" / "trial.json").exists()

    async def test_a_file_that_is_not_in_force_is_not_built_upon(self, tmp_path: Path) -> None:
        path = write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            path.write_text(ANONYMOUS + "# edited, not reloaded\n")
            outcome = await proxy.steering.apply(STRICT.encode(), "new.toml", None, ME)
            assert "another text than what is in force" in outcome.faults[0]
            path.unlink()
            path.symlink_to("elsewhere.toml")
            outcome = await proxy.steering.apply(STRICT.encode(), "new.toml", None, ME)
            assert "it is a link" in outcome.faults[0]

    async def test_a_roll_back_that_does_not_work_is_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steering, "RETRY_SECONDS", 0.1)
        taken = trio.socket.socket()
        await taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.close()
        write(tmp_path, text(listeners=LISTENER.format("tcp", port)))
        async with open_proxy(tmp_path) as proxy:
            assert (await proxy.steering.apply(text().encode(), "new.toml", 300.0, ME)).done
            with trio.socket.socket() as taken:
                taken.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
                await trio.testing.wait_all_tasks_blocked()
                await taken.bind(("127.0.0.1", port))
                taken.listen(1)
                outcome = await proxy.steering.roll_back(ME)
                assert "address already in use" in outcome.faults[0]
                assert "address already in use" in proxy.steering.status()["on_trial"]["trouble"]
            with trio.fail_after(20):
                while proxy.steering.on_trial:
                    await proxy.steering.changed.wait()
            assert proxy.metrics.rollbacks == 1
            (await connect(proxy)).abort()


class TestAfterAKill:
    async def test_what_was_on_trial_still_is_and_can_be_confirmed(self, tmp_path: Path) -> None:
        path = write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            await proxy.steering.apply(STRICT.encode(), "new.toml", 300.0, ME)
        async with open_proxy(tmp_path) as proxy:  # the one before ended without a word
            assert proxy.door.premises.access.allow_anonymous is False
            assert 290 < proxy.steering.status()["on_trial"]["seconds_left"] <= 300
            assert audit(proxy)[-1]["on_trial"] == "new.toml"
            assert (await proxy.steering.confirm(ME)).done
            assert path.read_text() == STRICT

    async def test_it_rolls_back_to_the_file_when_its_time_is_over(self, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            await proxy.steering.apply(STRICT.encode(), "new.toml", 3.0, ME)
        async with open_proxy(tmp_path) as proxy:
            with trio.fail_after(20):
                while proxy.steering.on_trial:
                    await proxy.steering.changed.wait()
            assert proxy.door.premises.access.allow_anonymous is True
            assert proxy.steering.status()["file_differs"] is False

    async def test_when_its_time_was_over_before_the_start_the_file_is_in_force(self, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            await proxy.steering.apply(STRICT.encode(), "new.toml", 0.2, ME)
            proxy.ends_soon = True
            await trio.sleep(0.3)  # its time passes by the clock of the wall, which the next process compares
        async with open_proxy(tmp_path) as proxy:
            assert proxy.door.premises.access.allow_anonymous is True
            assert proxy.steering.on_trial is None
            line = audit(proxy)[-1]
            assert (line["event"], line["faults"]) == ("rollback", ["new.toml was not confirmed in time"])
            assert line["generation"] == numbers(tmp_path) == 3

    async def test_a_kill_between_file_and_record_is_a_confirmation(self, tmp_path: Path) -> None:
        path = write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            await proxy.steering.apply(STRICT.encode(), "new.toml", 300.0, ME)
        path.write_text(STRICT)
        async with open_proxy(tmp_path) as proxy:
            assert proxy.steering.on_trial is None
            assert proxy.door.premises.access.allow_anonymous is False
            assert audit(proxy)[-1]["event"] == "confirm"

    @pytest.mark.parametrize("record", [b"", b"{}", b'{"number": 1}', b"\xff"])
    async def test_a_record_that_cannot_be_read_leaves_the_file_in_force(self, record: bytes, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "trial.json").write_bytes(record)
        async with open_proxy(tmp_path) as proxy:
            assert "cannot be read" in audit(proxy)[-1]["faults"][0]
            assert proxy.steering.on_trial is None

    async def test_what_is_read_at_start_only_stays_as_the_file_has_it(self, tmp_path: Path) -> None:
        write(tmp_path, ANONYMOUS)
        async with open_proxy(tmp_path) as proxy:
            other = text("[limits]\nconnections = 7\n", anonymous=False)
            outcome = await proxy.steering.apply(other.encode(), "new.toml", 300.0, ME)
            assert outcome.needs_restart == ("limits.connections",)
        async with open_proxy(tmp_path) as proxy:
            assert proxy.config.access.allow_anonymous is False
            assert proxy.config.limits.connections == 100_000
