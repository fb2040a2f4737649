"""The ban list of a running proxy: brought back at the start, changed by commands, and kept in the data folder.

A ban is in force before it is written, and one that is lifted is written before it is not: whatever the disk does,
nobody comes in who should not.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import trio

from mqttproxy.downstream.refusing import note_refused
from mqttproxy.limiting.bans import KINDS, LONGEST, Ban, Bans, Kind, TooManyBansError, as_lines, canonical, read_lines
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.steering.causes import Cause, Steered
from mqttproxy.steering.remembering import Remembering
from mqttproxy.wholefile import write_whole

FILE: Final = "bans.jsonl"
TOLD: Final = 10_000  # bans in one answer: those by hand first
AT_ONCE: Final = 500  # devices looked at before others have their turn
LONGEST_BAN: Final = 36_500 * 86_400.0  # seconds

JSON = dict[str, Any]


class Banning:
    """Whoever changes the list comes through here, one after the other."""

    def __init__(self, running: Steered) -> None:
        self._running: Final = running
        self._one: Final = trio.Lock()

    @property
    def _bans(self) -> Bans:
        return self._running.door.premises.bans

    @property
    def _path(self) -> Path:
        return self._running.started_with.proxy.data_dir / FILE

    async def load(self) -> None:
        """Put in force what was kept. Lines that are damaged are told, and the file as it was is set aside.

        Raises:
            OSError: the file is there and cannot be read: who was banned must not come in, so nobody does.

        """
        running = self._running
        try:
            data = await self._in_thread(self._path.read_bytes)
        except FileNotFoundError:
            return
        bans, damaged = read_lines(data)
        self._bans.restore(bans)
        if damaged:
            aside = self._path.with_name(f"{FILE}.damaged-{int(running.outside.wall())}")
            await self._in_thread(partial(write_whole, aside, data))
            words = f"{damaged} lines of {FILE} were damaged, and are no longer in force: {aside.name} has them"
            running.log.error("bans_damaged", lines=damaged, in_force=len(bans), file=str(aside))
            running.health.report("bans", False, words, gates="nothing")

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Bring back both lists, then look after that of refused clients until cancelled. Raises as `load` does."""
        remembering = Remembering(self._running)
        await self.load()
        await remembering.load()
        task_status.started()
        await remembering.run()

    async def answer(self, asked: JSON, cause: Cause) -> JSON:
        """Do what a command asks: `do` is add, remove, list or refused."""
        match asked.get("do"):
            case "list":
                bans = self._list()
                return _done(bans=bans[:TOLD], left_out=max(len(bans) - TOLD, 0))
            case "refused":
                newest = self._running.door.premises.refused.newest(self._running.outside.wall())
                return _done(refused=[one.as_document() for one in newest])
            case "add" | "remove" as what:
                async with self._one:
                    return await self._change(what, asked, cause)
        return _failed("a command on bans is one of add, remove, list, refused")

    async def _change(self, what: str, asked: JSON, cause: Cause) -> JSON:
        kind, value = asked.get("kind"), asked.get("value")
        if kind not in KINDS or not isinstance(value, str):
            return _failed(f"a ban is of {', '.join(KINDS)}, and of a text")
        known_by = canonical(kind, value)
        if known_by is None:
            return _failed(f"{value!r}: no {kind} that can be banned")
        if what == "add":
            return await self._add(kind, known_by, asked, cause)
        return await self._remove(kind, known_by, cause)

    def _list(self) -> list[JSON]:
        wall, now, flapping = self._running.outside.wall(), trio.current_time(), self._running.door.premises.flapping
        told: list[JSON] = [_as_document(ban, "command") for ban in self._bans if not ban.is_over(wall)]
        for client_id, seconds, began in flapping.now_banned(now):
            ban = Ban("client", client_id, flapping.words, "mqttproxy", wall - began, wall + seconds)
            told.append(_as_document(ban, "flapping"))
        return told

    async def _add(self, kind: Kind, value: str, asked: JSON, cause: Cause) -> JSON:
        seconds, reason = asked.get("seconds"), asked.get("reason")
        wall = self._running.outside.wall()
        is_time = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds <= LONGEST_BAN
        if seconds is not None and not is_time:
            return _failed("a ban is for ever, or for some seconds")
        if not isinstance(reason, str) or not 0 < len(reason) <= LONGEST:
            return _failed(f"a ban has a reason of at most {LONGEST} characters")
        ban = Ban(kind, value, reason, cause.who[:LONGEST], wall, None if seconds is None else wall + float(seconds))
        try:
            self._bans.add(ban, wall)
        except TooManyBansError as error:
            return _failed(str(error))
        self._note("added", ban, cause)
        ended = await self._end_connections()
        if trouble := await self._write(self._bans):
            return _failed(f"in force until the proxy ends, but not written: {trouble}") | {"ended": ended}
        return _done(ban=_as_document(ban, "command"), ended=ended)

    async def _remove(self, kind: Kind, value: str, cause: Cause) -> JSON:
        flapping = self._running.door.premises.flapping
        ban = next((one for one in self._bans if (one.kind, one.value) == (kind, value)), None)
        was_flapping = kind == "client" and flapping.lift(value)
        if ban is None and not was_flapping:
            return _failed(f"{kind} {value!r} is not banned")
        if ban is not None:
            if trouble := await self._write(one for one in self._bans if one is not ban):
                return _failed(f"the ban stays: it could not be written that it is lifted: {trouble}")
            self._bans.remove(kind, value)
        self._note("removed", ban or Ban(kind, value, flapping.words, "mqttproxy", 0.0), cause)
        return _done(kind=kind, value=value)

    async def _write(self, bans: Iterable[Ban]) -> str:
        """Write the list, and return why it could not be; empty: it was."""
        wall = self._running.outside.wall()
        data = as_lines(ban for ban in bans if not ban.is_over(wall))
        try:
            await self._in_thread(partial(write_whole, self._path, data))
        except OSError as error:
            return (error.strerror or str(error)).lower()
        return ""

    async def _end_connections(self) -> int:
        """End those of devices that are banned now, and return how many."""
        wall, ended = self._running.outside.wall(), 0
        for index, device in enumerate(list(self._running.door.premises.devices.values())):
            if index % AT_ONCE == AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            if (ban := self._bans.against(device.identity, wall)) is not None:
                device.disconnect(ReasonCode.BANNED, ban.words)
                note_refused(self._running.door.premises, device.identity, ReasonCode.BANNED, ban.rule, ban.words)
                ended += 1
        return ended

    def _note(self, action: str, ban: Ban, cause: Cause) -> None:
        self._running.audit.write(
            {
                "event": "ban",
                "action": action,
                "cause": cause.by,
                "who": cause.who,
                "kind": ban.kind,
                "value": ban.value,
                "reason": ban.reason,
                "until": ban.until,
            }
        )

    async def _in_thread(self, call: Any) -> Any:
        return await self._running.outside.to_thread(call, abandon_on_cancel=False, limiter=trio.CapacityLimiter(1))


def _as_document(ban: Ban, source: str) -> JSON:
    return {
        "kind": ban.kind,
        "value": ban.value,
        "reason": ban.reason,
        "author": ban.author,
        "since": ban.since,
        "until": ban.until,
        "source": source,
    }


def _done(**more: Any) -> JSON:
    return {"done": True, "faults": [], **more}


def _failed(fault: str) -> JSON:
    return {"done": False, "faults": [fault]}
