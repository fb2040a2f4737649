"""One change at a time, whatever its cause: reload, apply, confirm, roll back. Each is told, counted and audited.

A configuration that was applied for a while is in force but not in the file. While it is on trial nothing else is put
in force, so that there is one thing to go back to; and the process that is killed meanwhile goes on with it, until it
is confirmed or its time is over.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import trio
from attrs import evolve

from mqttproxy.config.errors import ConfigError, Fault
from mqttproxy.config.load import read_file
from mqttproxy.reload import (
    Built,
    Outcome,
    Running,
    Source,
    build,
    digest_of,
    put_in_force,
    refused,
    swap,
    tell,
)
from mqttproxy.ruleset import Ruleset
from mqttproxy.steering.causes import Cause, OnTrial, Steered
from mqttproxy.steering.trial import Records, Trial, replace_file, why_not_replaceable

RETRY_SECONDS: Final = 5.0  # after a roll-back that did not work
FILE_EVERY: Final = 2.0  # seconds between two looks at whether the file is what is in force

T = TypeVar("T")


class Steering:
    """See the module."""

    def __init__(self, running: Steered, records: Records) -> None:
        self._running: Final = running
        self._records: Final = records
        self._lock: Final = trio.Lock()
        self._limiter: Final = trio.CapacityLimiter(1)
        self._tried: trio.Event = trio.Event()  # something else is on trial, or nothing
        self.changed: trio.Event = trio.Event()  # a change was made, or refused; a new one is there by then
        self.on_trial: OnTrial | None = None
        self.file_differs = False  # from what is in force

    # What others ask for.

    async def reload(self, cause: Cause) -> Outcome:
        """Put in force what the file holds now."""
        async with self._lock:
            running = self._running
            if why := self._why_not():
                outcome = refused(running, ConfigError([Fault(str(running.path), "", why)]))
            else:
                outcome = await put_in_force(running, agree=self._take_number)
            await self._settled("reload", cause, outcome)
            return outcome

    async def apply(self, text: bytes, called: str, confirm_within: float | None, cause: Cause) -> Outcome:
        """Put a text in force that is to be the file: at once; or for so many seconds, unless it is confirmed."""
        async with self._lock:
            outcome = await self._apply(text, called, confirm_within, cause)
            more = {} if confirm_within is None else {"confirm_within": confirm_within}
            await self._settled("apply", cause, outcome, called=called, **more)
            return outcome

    async def confirm(self, cause: Cause) -> Outcome:
        """Let what is on trial be the file."""
        async with self._lock:
            outcome = await self._confirm()
            await self._settled("confirm", cause, outcome)
            return outcome

    async def roll_back(self, cause: Cause) -> Outcome:
        """Go back to what was in force before what is on trial."""
        async with self._lock:
            outcome = await self._roll_back(self.on_trial)
            await self._settled("rollback", cause, outcome)
            return outcome

    async def build_aside(self, text: bytes, called: str) -> Built:
        """Check and compile a text as if it were the file, and do nothing with it.

        Raises:
            ConfigError, OSError: it cannot be used.

        """
        async with self._lock:
            return await self._build(text, called)

    def status(self) -> dict[str, Any]:
        """Return what is in force, for people and programs."""
        running, trial = self._running, self.on_trial
        document: dict[str, Any] = {
            "generation": running.pipeline.ruleset.generation.number,
            "file": str(running.path),
            "file_differs": self.file_differs,
            "on_trial": None,
        }
        if trial is not None:
            document["on_trial"] = {
                "called": trial.trial.called,
                "who": trial.trial.who,
                "seconds_left": round(max(0.0, trial.deadline - trio.current_time()), 1),
                "trouble": trial.going_back or None,
            }
        return document

    # How it is done. The lock is held.

    def _why_not(self) -> str:
        if self._running.ends_soon:
            return "a process that is ending"
        if self.on_trial is not None:
            trial = self.on_trial.trial
            return (
                f"generation {trial.number} on trial until {_clock(trial.until)}: confirm it, or roll it back, before "
                "anything else is put in force"
            )
        return ""

    async def _apply(self, text: bytes, called: str, confirm_within: float | None, cause: Cause) -> Outcome:
        running, file = self._running, self._running.path
        try:
            if why := self._why_not():
                _refuse(file, why)
            if why := await self._in_thread(why_not_replaceable, file):
                _refuse(file, why, expected="a file that can be replaced by the new one")
            file_digest = digest_of(await self._in_thread(read_file, file))
            if file_digest != running.digest:
                hint = "reload it, or put the old text back, then apply"
                _refuse(file, "another text than what is in force", hint=hint)
            built = await self._build(text, called)
            if built.config.proxy.data_dir != running.started_with.proxy.data_dir:
                _refuse(called, "another folder", "proxy.data_dir", hint="that needs a restart")
            number = built.ruleset.generation.number
            if confirm_within is None:
                return await self._replace_and_swap(built, text, called)
            now = running.outside.wall()
            trial = Trial(
                number=number,
                text=text.decode(),
                digest=built.digest,
                called=called,
                file_digest=file_digest,
                since=now,
                until=now + confirm_within,
                who=cause.who,
            )
            before = Built(running.config, running.pipeline.ruleset, running.digest)
            return await self._swap_for_a_while(built, trial, before, confirm_within)
        except (ConfigError, OSError) as error:
            return refused(running, error)

    async def _replace_and_swap(self, built: Built, text: bytes, called: str) -> Outcome:
        file = self._running.path
        former = await self._in_thread(read_file, file)

        async def agree() -> None:
            await self._take_number()
            await self._in_thread(replace_file, file, text)

        with trio.CancelScope(shield=True):  # file and process change together
            try:
                outcome = await swap(self._running, built, called, agree)
            except OSError:
                await self._in_thread(_put_back, file, text, former)
                raise
        tell(self._running, outcome)
        return outcome

    async def _swap_for_a_while(self, built: Built, trial: Trial, before: Built, seconds: float) -> Outcome:
        async def agree() -> None:
            await self._take_number()
            await self._in_thread(self._records.keep_trial, trial)

        with trio.CancelScope(shield=True):
            try:
                outcome = await swap(self._running, built, trial.called, agree)
            except (ConfigError, OSError):
                await self._in_thread(self._records.end_trial)
                raise
        tell(self._running, outcome)
        self._put_on_trial(OnTrial(trial, trio.current_time() + seconds, before))
        return outcome

    async def _confirm(self) -> Outcome:
        running, on_trial = self._running, self.on_trial
        try:
            if on_trial is None:
                _refuse(running.path, "nothing on trial")
            trial = on_trial.trial
            if digest_of(await self._in_thread(read_file, running.path)) != trial.file_digest:
                hint = "somebody changed it since: roll back, then reload it or apply again"
                _refuse(running.path, "another text than at the time of apply", hint=hint)
            with trio.CancelScope(shield=True):
                await self._in_thread(replace_file, running.path, trial.text.encode())
                self._put_on_trial(None)
                await self._in_thread(self._records.end_trial)
        except (ConfigError, OSError) as error:
            return _not_done(running, error)
        running.log.info("confirmed", generation=trial.number)
        return Outcome(trial.number)

    async def _roll_back(self, on_trial: OnTrial | None) -> Outcome:
        running = self._running
        if on_trial is None:
            return _not_done(running, ConfigError([Fault(str(running.path), "", "nothing on trial")]))
        number = running.pipeline.ruleset.generation.number + 1
        try:
            with trio.CancelScope(shield=True):
                # First, so that whoever is killed now starts from the file. It holds what was in force before.
                await self._in_thread(self._records.end_trial)
                if on_trial.before is None:
                    built = await build(Source.at(running.path), number, running.outside)
                else:
                    built = _again(on_trial.before, number)
                outcome = await swap(running, built, str(running.path), self._take_number)
        except (ConfigError, OSError) as error:
            on_trial.going_back = str(error)
            on_trial.deadline = trio.current_time() + RETRY_SECONDS
            self._put_on_trial(on_trial)  # whoever waits for its end learns of the new one
            return _not_done(running, error, "roll-back failed, it will be tried again")
        running.metrics.rollbacks += 1
        tell(running, outcome)
        self._put_on_trial(None)
        return outcome

    async def _build(self, text: bytes, called: str) -> Built:
        candidate = await self._in_thread(self._records.keep_candidate, text)
        source = Source(candidate, self._running.path, called)
        number = self._running.pipeline.ruleset.generation.number + 1
        try:
            return await build(source, number, self._running.outside)
        finally:
            with trio.CancelScope(shield=True):
                await self._in_thread(self._records.end_candidate)

    async def _take_number(self) -> None:
        """Let no other generation have this number. Best effort: a full disk must not keep anyone from a remedy."""
        number = self._running.pipeline.ruleset.generation.number + 1
        try:
            await self._in_thread(self._records.keep_number, number)
        except OSError as error:
            self._running.log.warning("the number of a generation cannot be kept", generation=number, error=str(error))

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        found: T = await self._running.outside.to_thread(
            partial(call, *arguments), abandon_on_cancel=False, limiter=self._limiter
        )
        return found

    async def _settled(self, event: str, cause: Cause, outcome: Outcome, **more: object) -> None:
        running = self._running
        running.audit.write(
            {
                "event": event,
                "outcome": "done" if outcome.done else "refused",
                "generation": outcome.generation,
                "cause": cause.by,
                "who": cause.who,
                "file": str(running.path),
                "digest": running.digest,
                "faults": list(outcome.faults),
                "needs_restart": list(outcome.needs_restart),
                **more,
            }
        )
        await self.look_at_file()
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    def _put_on_trial(self, on_trial: OnTrial | None) -> None:
        self.on_trial = on_trial
        self._running.metrics.generation_on_trial = int(on_trial is not None)
        self._report()
        tried, self._tried = self._tried, trio.Event()
        tried.set()

    # What happens by itself.

    def begin(self, trial: Trial | None, line: Mapping[str, object]) -> None:
        """Begin, by what the process before this one has left: something on trial, and a line that says so."""
        running = self._running
        number = running.pipeline.ruleset.generation.number
        told = {"generation": number, "cause": "start", "who": "", "file": str(running.path), "digest": running.digest}
        running.audit.write({"event": line["event"], **told, **line})
        if line.get("faults"):
            running.log.warning("what was on trial is over", faults=line["faults"], generation=number)
        if trial is None:
            return
        left = trial.until - running.outside.wall()
        left = min(max(0.0, left), trial.until - trial.since)  # whatever the clock has done meanwhile
        running.log.warning("still on trial", called=trial.called, generation=number, seconds=round(left))
        self._put_on_trial(OnTrial(trial, trio.current_time() + left))

    async def end_trials(self) -> None:
        """Roll back what is not confirmed in time, until cancelled."""
        while True:
            tried, on_trial = self._tried, self.on_trial
            if on_trial is None:
                await tried.wait()
                continue
            with trio.move_on_at(on_trial.deadline):
                await tried.wait()
                continue
            async with self._lock:
                if self.on_trial is on_trial and not self._running.ends_soon:
                    outcome = await self._roll_back(on_trial)
                    await self._settled("rollback", Cause("timer"), outcome)
                elif self._running.ends_soon:
                    return

    async def watch_file(self) -> None:
        """Notice when the file is not what is in force any more, until cancelled."""
        seen: object = None
        while True:
            stat = await self._in_thread(_look, self._running.path)
            if stat != seen:
                seen = stat
                await self.look_at_file()
            await trio.sleep(FILE_EVERY)

    async def look_at_file(self) -> None:
        """Compare the file with what is in force, and tell when they begin to differ."""
        running = self._running
        try:
            differs = digest_of(await self._in_thread(read_file, running.path)) != running.digest
        except ConfigError:
            differs = True
        if differs and not self.file_differs and self.on_trial is None:
            running.log.warning("the file is not what is in force", file=str(running.path))
        self.file_differs = differs
        running.metrics.config_file_differs = int(differs)
        self._report()

    def _report(self) -> None:
        """Say to whoever looks at the health when the file and what is in force are not the same."""
        reason = ""
        if self.on_trial is not None:
            trial = self.on_trial.trial
            reason = f"generation {trial.number} is on trial until {_clock(trial.until)}: {self.on_trial.going_back}"
        elif self.file_differs:
            reason = f"{self._running.path} is not what is in force"
        self._running.health.report("configuration", not reason, reason.removesuffix(": "), gates="nothing")


def _again(built: Built, number: int) -> Built:
    """Return what was in force once, under a number of its own."""
    ruleset: Ruleset = built.ruleset
    return evolve(built, ruleset=evolve(ruleset, generation=evolve(ruleset.generation, number=number)))


def _refuse(file: Path | str, found: str, key: str = "", *, expected: str = "", hint: str = "") -> NoReturn:
    raise ConfigError([Fault(str(file), key, found, expected, hint)])


def _put_back(file: Path, text: bytes, former: bytes) -> None:
    if file.read_bytes() == text != former:
        replace_file(file, former)


def _not_done(running: Running, error: Exception, words: str = "not done") -> Outcome:
    faults = [str(fault) for fault in error.faults] if isinstance(error, ConfigError) else [str(error)]
    running.log.error(words, faults=faults)
    return Outcome(running.pipeline.ruleset.generation.number, tuple(faults))


def _look(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _clock(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
