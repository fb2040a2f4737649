"""Plug-in checks asked: each in a process of its own, one message after the other, within its time.

Whatever such a process does (raises, hangs, ends, answers nonsense, cannot be started) is an answer too: the message
fails with keyword `plugin-fault` (promise P7). A process that hung or ended is started again, not before a backoff is
over; messages that come meanwhile fail at once.
"""

import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary

import trio
from attrs import Factory, define, field
from msgspec import DecodeError, ValidationError

from mqttproxy.apart import open_apart
from mqttproxy.handover import Origin
from mqttproxy.mqtt.packets import Message, Publish
from mqttproxy.plugin.view import HEADER, REPLIES, Reply, framed
from mqttproxy.ruleset import Ruleset
from mqttproxy.telemetry.logs import RateLimited
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.upstream.backoff import Backoff
from mqttproxy.upstream.guard import LOOP, admit
from mqttproxy.validation import Failure, judge
from mqttproxy.validation.plugins import FAULT, Answers, Question
from mqttproxy.validation.words import MESSAGE_LENGTH, printable

START_SECONDS: Final = 10.0  # for a process to begin and to import its check
BACKOFF_FIRST: Final = 1.0  # seconds
BACKOFF_CEILING: Final = 60.0
LARGEST_REPLY: Final = 1024 * 1024  # bytes
_READ: Final = 65_536
KEYWORD: Final = "plugin"


class _BrokenError(Exception):
    """The process is of no more use, for a reason in one word and in some."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(words)
        self.kind = kind


@define(eq=False)
class _Asked:
    """A question in the queue. `is_wanted`: somebody waits for the answer."""

    question: Question
    failures: tuple[Failure, ...] = ()
    is_wanted: bool = True
    done: trio.Event = Factory(trio.Event)


@define(eq=False)
class _Process:
    """A process that serves one check."""

    _process: trio.Process
    _unread: bytearray = Factory(bytearray)
    began: float = Factory(trio.current_time)

    async def send(self, request: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 # it was opened with pipes
        await self._process.stdin.send_all(framed(request))

    async def reply(self) -> Reply:
        size = int.from_bytes(await self._take(HEADER))
        if size > LARGEST_REPLY:
            raise _BrokenError("answer", "its answer is too long")
        try:
            return REPLIES.decode(await self._take(size))
        except (DecodeError, ValidationError) as error:
            raise _BrokenError("answer", "its answer cannot be read") from error

    async def _take(self, count: int) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 # it was opened with pipes
        while len(self._unread) < count:
            data = await self._process.stdout.receive_some(_READ)
            if not data:
                raise _BrokenError("ended", "its process has ended")
            self._unread += data
        taken = bytes(self._unread[:count])
        del self._unread[:count]
        return taken

    async def end(self) -> None:
        """End it, whatever it is doing."""
        with trio.CancelScope(shield=True):
            self._process.kill()
            await self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    await pipe.aclose()


class _Plugin:
    """One check, its queue and its process."""

    def __init__(self, name: str, queue: int, metrics: Metrics, alerts: RateLimited, backoff: Backoff) -> None:
        self.name = name
        self._metrics = metrics
        self._alerts = alerts
        self._backoff = backoff
        self._put, self._queue = trio.open_memory_channel[_Asked](queue)
        self._process: _Process | None = None
        self._not_before = 0.0
        self._why_not = ""

    async def put(self, asked: _Asked) -> None:
        """Queue a question; waits while the queue is full. Raises trio.ClosedResourceError: the check is let go of."""
        await self._put.send(asked)

    def stop(self) -> None:
        """Answer what is queued, then end."""
        self._put.close()

    async def run(self) -> None:
        """Answer until stopped or cancelled."""
        try:
            await self._begin()
            async for asked in self._queue:
                if asked.is_wanted:
                    asked.failures = await self._answer(asked.question)
                    asked.done.set()
        finally:
            await self._end()

    async def _begin(self) -> None:
        try:
            await self._ready()
        except _BrokenError as error:
            await self._break(error)

    async def _answer(self, question: Question) -> tuple[Failure, ...]:
        self._metrics.plugin_messages.add(self.name)
        if self._process is None and trio.current_time() < self._not_before:
            return self._fault("waiting", self._why_not)
        try:
            process = await self._ready()
            with _within(question.seconds, f"it took longer than {question.seconds:g} s"):
                await process.send(question.request)
                reply = await process.reply()
        except _BrokenError as error:
            await self._break(error)
            return self._fault(error.kind, str(error))
        if reply.fault is not None:
            return self._fault("raised", reply.fault)
        return tuple(
            Failure(printable(pointer, MESSAGE_LENGTH), KEYWORD, printable(text, MESSAGE_LENGTH))
            for pointer, text in reply.failures
        )

    async def _ready(self) -> _Process:
        """Return the process, started if there is none."""
        if self._process is None:
            self._metrics.plugin_starts.add(self.name)
            with _within(START_SECONDS, f"it was not ready within {START_SECONDS:g} s"):
                self._process = _Process(await open_apart("mqttproxy.plugin.serving", self.name))
                hello = await self._process.reply()
            if hello.fault is not None:
                raise _BrokenError("not_loaded", hello.fault)
        return self._process

    async def _break(self, error: _BrokenError) -> None:
        now = trio.current_time()
        lasted = now - self._process.began if self._process is not None else 0.0
        self._not_before = now + self._backoff.next_delay(lasted)
        self._why_not = f"it does not run: {error}"
        self._alerts.warning(f"plugin:{self.name}", "plugin_ended", plugin=self.name, kind=error.kind, error=str(error))
        await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end()

    def _fault(self, kind: str, words: str) -> tuple[Failure, ...]:
        self._metrics.plugin_faults.add(kind)
        return (Failure("", FAULT, printable(f"plug-in {self.name}: {words}", MESSAGE_LENGTH)),)


@contextmanager
def _within(seconds: float, words: str) -> Iterator[None]:
    """Break what takes longer, and what the pipes do not do."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise _BrokenError("slow", words) from None
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise _BrokenError("ended", f"its process has ended ({error})") from error


@define(eq=False)
class Asking:
    """Everything that plug-ins are asked. One for the process.

    `queue`: messages that may wait for one check; who has more waits.
    """

    metrics: Metrics
    alerts: RateLimited
    queue: int
    chance: Callable[[], float] = random.random  # of the backoff
    has_plugins: bool = field(init=False, default=False)
    _ruleset: Ruleset | None = field(init=False, default=None)
    _answers: WeakKeyDictionary[Origin, Answers] = field(init=False, factory=WeakKeyDictionary)
    _wanted: frozenset[str] = field(init=False, default=frozenset())
    _plugins: dict[str, _Plugin] = field(init=False, factory=dict)
    _nursery: trio.Nursery | None = field(init=False, default=None)

    def use(self, ruleset: Ruleset) -> None:
        """Put the checks of a ruleset in force."""
        self._ruleset, plugins = ruleset, ruleset.generation.plugins
        self.has_plugins = bool(plugins)
        self.have(plugins)

    def concerns(self, publishes: Iterable[Message]) -> bool:
        """Tell whether checks may have to be asked about some of these messages before they are carried."""
        if not self.has_plugins or self._ruleset is None:
            return False
        return any(map(self._ruleset.generation.asks, [publish.topic for publish in publishes]))

    def must_wait(self, origin: Origin, publishes: Sequence[Publish]) -> Callable[[], Awaitable[None]] | None:
        """Judge messages, only to see which answers are missing.

        Args:
            origin: who is about to have them carried; what is known of them is kept for `take`.
            publishes: as they came.

        Returns:
            None: all is known. Else what asks: wait for it, then come again, because what a message becomes may be
            asked about too.

        """
        if not self.concerns(publishes) or self._ruleset is None:
            return None
        generation, settings = self._ruleset.generation, self._ruleset.config.proxy
        answers, acl = self._answers.setdefault(origin, Answers()), self._ruleset.acl
        rights = None if acl is None else acl.rights_of(origin.identity)
        for publish in publishes:
            if rights is not None and not rights.allow(publish):
                continue  # it will be refused, and must not keep others waiting for a check
            admitted = admit(publish, settings.id, settings.hop_limit)
            if admitted is not LOOP and generation.asks(publish.topic):
                with suppress(Exception):  # a bug of ours is told when it is judged for good
                    judge(admitted, origin.identity, generation, answers)
        return partial(self.ask, answers) if answers.missing else None

    def take(self, origin: Origin) -> Answers | None:
        """Return the answers that were asked for, for messages that are carried now; None: there are none."""
        return self._answers.pop(origin, None) if self.has_plugins else None

    def have(self, names: Iterable[str]) -> None:
        """Have these checks, and all of them anew: a reload is how a new version of one comes into force."""
        self._wanted = frozenset(names)
        if self._nursery is not None:
            self._renew(self._nursery)

    def _renew(self, nursery: trio.Nursery) -> None:
        before = self._plugins
        self._plugins = {}
        for name in sorted(self._wanted):
            backoff = Backoff(first=BACKOFF_FIRST, ceiling=BACKOFF_CEILING, reset=BACKOFF_CEILING, chance=self.chance)
            plugin = self._plugins[name] = _Plugin(name, self.queue, self.metrics, self.alerts, backoff)
            nursery.start_soon(plugin.run)
        for plugin in before.values():
            plugin.stop()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Have the processes, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._renew(nursery)
            task_status.started()
            await trio.sleep_forever()

    async def ask(self, answers: Answers) -> None:
        """Ask what is missing. Afterwards all of it is known: what could not be asked is a fault."""
        by_plugin: dict[str, list[Question]] = {}
        for question in answers.take_missing():
            by_plugin.setdefault(question.plugin, []).append(question)
        async with trio.open_nursery() as nursery:
            for name, questions in by_plugin.items():
                nursery.start_soon(self._ask, name, questions, answers)

    async def _ask(self, name: str, questions: Sequence[Question], answers: Answers) -> None:
        queued: list[_Asked] = []
        try:
            for question in questions:
                queued.append(asked := _Asked(question))
                await self._put(name, asked)
            for asked in queued:
                await asked.done.wait()
                answers.known[asked.question] = asked.failures
        finally:
            for asked in queued:
                asked.is_wanted = False  # the device is gone, if it has no answer yet

    async def _put(self, name: str, asked: _Asked) -> None:
        while (plugin := self._plugins.get(name)) is not None:
            try:
                await plugin.put(asked)
            except trio.ClosedResourceError:  # a reload: there is a new one, or none any more
                continue
            return
        self.metrics.plugin_faults.add("unknown")
        asked.failures = (Failure("", FAULT, f"plug-in {name}: no policy in force has it"),)
        asked.done.set()
