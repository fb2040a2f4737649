"""The audit trail: one JSON line for each decision that somebody may ask about later.

Lines are encoded at once and written by one thread in batches, so that a slow disk delays no message. A killed
process loses what it gathered in the last 0.2 s; a stopped one loses nothing. Each line carries the hash of the line
before it, see `auditchain`. When the disk fails, lines wait in
bounded memory; what does not fit is dropped, counted, and makes the proxy not ready.
"""

import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NoReturn, Protocol

import trio

from mqttproxy.apart import IN_THREAD, ToThread
from mqttproxy.telemetry.auditfiles import AuditFiles
from mqttproxy.telemetry.health import Health
from mqttproxy.telemetry.jsonlines import encode_line

Action = Literal["forwarded", "observed", "marked", "held", "refused", "dropped", "released"]

GATHER_SECONDS: Final = 0.2  # how long lines gather before they are written
GATHER_BYTES: Final = 256 * 1024  # or until this many
WAITING_BYTES: Final = 16 * 1024 * 1024  # that wait for the disk; a line beyond is dropped
WRITE_SECONDS: Final = 5.0  # a write that takes longer is told as trouble; also the longest flush when cancelled
RETRY_SECONDS: Final = 1.0
PAYLOAD_BYTES: Final = 4096
MAX_FAILURES: Final = 32


class FailureLike(Protocol):
    """One thing wrong with a payload, as the judge tells it."""

    @property
    def pointer(self) -> str:
        """JSON Pointer of the value."""

    @property
    def keyword(self) -> str:
        """Which keyword of the schema says so."""

    @property
    def message(self) -> str:
        """It in words."""


class PartLike(Protocol):
    """What one of several policies found, as the judge tells it."""

    @property
    def policy(self) -> str | None: ...  # noqa: D102  # the class says it
    @property
    def schema(self) -> str | None: ...  # noqa: D102
    @property
    def observed(self) -> bool: ...  # noqa: D102
    @property
    def failures(self) -> Sequence[FailureLike]: ...  # noqa: D102


def _failures(failures: Sequence[FailureLike]) -> list[dict[str, str]]:
    return [{"pointer": one.pointer, "keyword": one.keyword, "message": one.message} for one in failures[:MAX_FAILURES]]


class Veil(Protocol):
    """Hides what must not be written down."""

    def __call__(
        self, topic: str, payload: bytes, failures: Sequence[FailureLike]
    ) -> tuple[bytes, Sequence[FailureLike]]:
        """Return what may be shown of a payload and of what is wrong with it. Must not raise."""


class AuditTrail:
    """Takes lines at any time from the Trio thread, and writes them while `run` runs."""

    def __init__(
        self,
        directory: Path,
        *,
        rotate_bytes: int = 64 * 1024 * 1024,
        keep_files: int = 10,
        with_payload: bool = False,
        waiting_bytes: int = WAITING_BYTES,
        now: Callable[[], float] = time.time,
        health: Health | None = None,
        to_thread: ToThread = IN_THREAD,
        make_files: Callable[..., AuditFiles] = AuditFiles,
    ) -> None:
        """Make a trail; nothing is opened before `run`.

        Args:
            directory: made when it is not there. `audit.jsonl` in it is the current file.
            rotate_bytes: no file becomes larger, unless one line is.
            keep_files: closed files that are kept, the newest.
            with_payload: decisions carry the first 4 KiB of the payload.
            waiting_bytes: how much may wait for the disk.
            now: wall clock, seconds since 1970.
            health: is told of trouble as component "audit".
            to_thread: as `trio.to_thread.run_sync`; simulations have no threads.
            make_files: what writes; the same.

        """
        self._with_payload = with_payload
        self._bound: Final = waiting_bytes
        self._now: Final = now
        self._health: Final = health
        self._waiting: Final[deque[bytes]] = deque()
        self._files: Final = make_files(directory, self._waiting, rotate_bytes, keep_files, now)
        self._to_thread: Final = to_thread
        self._one_thread: Final = trio.CapacityLimiter(1)  # an abandoned write keeps the next one waiting
        self._some = trio.Event()
        self._plenty = trio.Event()
        self._taken_bytes = 0
        self._second = -1
        self._second_text = ""
        self._dropped_before = 0
        self.lines = 0  # taken
        self.dropped = 0  # not taken
        self.trouble: str | None = None  # why the disk does not take lines
        self.veil: Veil | None = None  # for decisions, from now on

    @property
    def waiting_bytes(self) -> int:
        """How much has been taken and not yet been written."""
        return self._taken_bytes - self._files.written_bytes

    @property
    def head(self) -> str | None:
        """The hash of the last line on disk, to be kept elsewhere; None: nothing was written yet."""
        return self._files.head

    def write(self, entry: Mapping[str, object]) -> None:
        """Take one line: the entry behind the time `at`. It names its `event`.

        Values are those of JSON; text that is not Unicode, bytes and other objects are escaped.
        """
        self._take({"at": self._time(), **entry})

    def decision(
        self,
        *,
        action: Action,
        reason: str | int = "",
        client_id: str,
        username: str | None = None,
        address: str = "",
        listener: str = "",
        topic: str,
        qos: int,
        retain: bool = False,
        payload: bytes,
        policy: str | None = None,
        schema: str | None = None,
        failures: Sequence[FailureLike] = (),
        destinations: Sequence[str] = (),
        generation: int = 0,
        dry_run: bool = False,
        quarantine_id: str | None = None,
        parts: Sequence[PartLike] = (),
    ) -> None:
        """Take the line of one decision. Its fields are always all there, the payload only when asked for.

        Where several policies found something, `parts` has the verdict of each.
        """
        size = len(payload)
        if self.veil is not None:
            payload, failures = self.veil(topic, payload if self._with_payload else b"", failures)
        line: dict[str, object] = {
            "at": self._time(),
            "event": "decision",
            "action": action,
            "reason": reason,
            "client_id": client_id,
            "username": username,
            "address": address,
            "listener": listener,
            "topic": topic,
            "qos": qos,
            "retain": retain,
            "size": size,
            "policy": policy,
            "schema": schema,
            "failures": _failures(failures),
            "destinations": destinations,
            "generation": generation,
            "dry_run": dry_run,
            "quarantine_id": quarantine_id,
        }
        if len(failures) > MAX_FAILURES:
            line["failures_left_out"] = len(failures) - MAX_FAILURES
        if parts:
            line["policies"] = [
                {
                    "policy": part.policy,
                    "schema": part.schema,
                    "observed": part.observed,
                    "failures": _failures(
                        part.failures if self.veil is None else self.veil(topic, b"", part.failures)[1]
                    ),
                }
                for part in parts
            ]
        if self._with_payload:
            line["payload"] = b64encode(payload[:PAYLOAD_BYTES]).decode("ascii")
        self._take(line)

    def apply(self, *, rotate_bytes: int, keep_files: int, with_payload: bool) -> None:
        """Go on with other settings."""
        self._with_payload = with_payload
        self._files.apply(rotate_bytes, keep_files)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Write what has gathered, until cancelled; then write the rest, for at most 5 s.

        Started once the file has been tried; trouble with it is told to `health` and tried again, never raised.
        """
        await self.flush()
        task_status.started()
        try:
            while True:
                await self._wait_gathered()
                await self.flush()
                if self.trouble:
                    await trio.sleep(RETRY_SECONDS)
        finally:
            await self.flush()
            await self._close()

    async def flush(self) -> None:
        """Write all that was taken so far. Not cancelled by others, and given up after 5 s."""
        with trio.move_on_after(WRITE_SECONDS, shield=True) as patience:
            self.trouble = await self._to_thread(
                self._files.write_waiting, abandon_on_cancel=True, limiter=self._one_thread
            )
        if patience.cancelled_caught:
            self.trouble = f"the disk has not taken the audit trail for {WRITE_SECONDS:.0f} s"
        self._tell()

    async def _close(self) -> None:
        with trio.move_on_after(WRITE_SECONDS, shield=True):
            await self._to_thread(self._files.close, abandon_on_cancel=True, limiter=self._one_thread)

    async def _wait_gathered(self) -> None:
        if not self._waiting:
            await self._some.wait()
        with trio.move_on_after(GATHER_SECONDS):
            await self._plenty.wait()
        self._some, self._plenty = trio.Event(), trio.Event()

    def _take(self, line: Mapping[str, object]) -> None:
        encoded = encode_line(line) + b"\n"
        waiting = self.waiting_bytes + len(encoded)
        if waiting > self._bound:
            self.dropped += 1
            return
        self._waiting.append(encoded)
        self._taken_bytes += len(encoded)
        self.lines += 1
        self._some.set()
        if waiting >= GATHER_BYTES:
            self._plenty.set()

    def _time(self) -> str:
        now = self._now()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((now - second) * 1000):03d}Z"

    def _tell(self) -> None:
        lost, self._dropped_before = self.dropped - self._dropped_before, self.dropped
        if self._health is None:
            return
        if lost:  # evidence is missing: whoever relies on the trail must not send more
            self._health.report("audit", ok=False, reason=f"{lost} lines dropped; {self.trouble or 'catching up'}")
        else:
            self._health.report("audit", ok=self.trouble is None, reason=self.trouble or "", gates="nothing")
