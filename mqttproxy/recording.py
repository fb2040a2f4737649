"""What the recorder is given of each batch: which messages, what became of them, and no more than masks let through.

The corridor makes one `Notes` for a batch while the recorder is on, and none while it is off. What costs time is done
in the recorder's thread, by `prepare`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import define, frozen
from msgspec import Struct

from mqttproxy.apart import ToThread
from mqttproxy.config.model import RecorderSettings
from mqttproxy.handover import Item, Plan
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.topics import FilterTree
from mqttproxy.recorder import Recorded, Recorder, Told
from mqttproxy.recorder.model import Action, Masked, Row, row_of
from mqttproxy.ruleset import Ruleset
from mqttproxy.telemetry.logs import RateLimited, get_log
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.telemetry.recorded import RecorderMetrics
from mqttproxy.validation import Action as Decision, Generation, Identity, Verdict
from mqttproxy.validation.checks import SchemaCheck
from mqttproxy.validation.transforms.masker import HIDDEN

if TYPE_CHECKING:  # see `Preparing` for the real import
    from mqttproxy.validation.drift import Drift, Share

CACHED_TOPICS: Final = 10_000
_HIDDEN: Final = (HIDDEN.encode(), b'"' + HIDDEN.encode())  # how a payload begins that is not shown at all


class Note(Struct, eq=False):
    """One message that is to be recorded."""

    message: Message  # as its device sent it
    identity: Identity
    verdict: Verdict
    destinations: tuple[str, ...]
    action: Action
    at: float  # seconds since 1970
    ruleset: Ruleset
    id: str | None = None


@frozen(eq=False)
class Circumstances:
    """What the recorder knows of the node. `epoch`: of this process, once the journal is loaded."""

    node: str
    epoch: Callable[[], int]
    wall: Callable[[], float]
    chance: Callable[[], float]
    dry_run: bool = False


class Recording:
    """The corridor's way to the recorder. One for the process."""

    def __init__(self, circumstances: Circumstances, recorder: "Recorder[Note]", ruleset: Ruleset) -> None:
        self.circumstances = circumstances
        self.recorder = recorder
        self._budget = 0.0  # messages that may be recorded at once
        self._refilled = 0.0  # monotonic seconds
        self.use(ruleset)

    def use(self, ruleset: Ruleset) -> None:
        """Record what comes from now on under another ruleset."""
        self.ruleset = ruleset
        self.settings: RecorderSettings = ruleset.config.recorder
        self.recorder.apply(self.settings)
        self._chosen: dict[str, bool] = {}  # by topic
        self._tree: FilterTree[int] = FilterTree()
        for topic_filter in self.settings.topics:
            self._tree.add(topic_filter, 0)

    def notes(self, now: float) -> "Notes | None":
        """Return what takes the notes of one batch, None: the recorder is off. `now`: monotonic seconds."""
        if not self.settings.enabled:
            return None
        rate = float(self.settings.messages_per_second)
        self._budget = min(rate, self._budget + rate * (now - self._refilled))
        self._refilled = now
        return Notes(self, self.circumstances.wall())

    def wants(self, topic: str) -> bool:
        """Tell whether a message is to be recorded, and count why not."""
        chosen = self._chosen.get(topic)
        if chosen is None:
            if len(self._chosen) >= CACHED_TOPICS:
                self._chosen.clear()
            chosen = self._chosen[topic] = bool(self._tree.match(topic))
        if not chosen:
            reason = "topic"
        elif self.settings.percent < 100 and self.circumstances.chance() * 100 >= self.settings.percent:
            reason = "percent"
        elif self._budget < 1:
            reason = "rate"
        else:
            self._budget -= 1
            return True
        self.recorder.left_out.add(reason)
        return False


class Notes:
    """Takes notes of one batch, in order, and gives them to the recorder at its end."""

    __slots__ = ("_at", "_carried", "_numbered", "_recording", "_taken")

    def __init__(self, recording: Recording, at: float) -> None:
        self._recording = recording
        self._at = at
        self._taken: list[Note] = []
        self._carried: list[Note | None] = []  # of each message that goes anywhere, in order
        self._numbered = 0  # of those

    def add(self, message: Message, identity: Identity, verdict: Verdict, plan: Plan, *, is_carried: bool) -> None:
        """Take note of a message, as its device sent it."""
        recording = self._recording
        note = None
        if recording.wants(message.topic):
            action = _action(verdict, plan, is_carried=is_carried, dry_run=recording.circumstances.dry_run)
            names = plan.names if is_carried else ()
            note = Note(message, identity, verdict, names, action, self._at, recording.ruleset)
            self._taken.append(note)
        if is_carried:
            self._carried.append(note)

    def numbered(self, items: Sequence[Item], plan: Plan, before: int, after: int) -> None:
        """Hear which numbers the next messages that are carried have got: those of the spool first, then the others.

        Args:
            items: of one group.
            plan: of the group.
            before: the last number that was given when it had none.
            after: the last number now.

        """
        notes = self._carried[self._numbered : self._numbered + len(items)]
        self._numbered += len(items)
        spooled = [plan.spool is not None and ticket is not None for _, ticket in items]
        past = len(items) - sum(spooled) if plan.lanes else 0
        number = after - past  # the last one of the spool; it may have had no room
        if number > before:
            self._name((note for note, is_spooled in zip(notes, spooled, strict=True) if is_spooled), before)
        if past:
            self._name((note for note, is_spooled in zip(notes, spooled, strict=True) if not is_spooled), number)

    def end(self) -> None:
        """Give everything to the recorder."""
        if self._taken:
            self._recording.recorder.offer(self._taken, sum(len(note.message.payload) for note in self._taken))

    def _name(self, notes: Iterable[Note | None], number: int) -> None:
        node, epoch = self._recording.circumstances.node, self._recording.circumstances.epoch()
        for note in notes:
            number += 1
            if note is not None:
                note.id = f"{node}.{epoch}.{number}"


def _action(verdict: Verdict, plan: Plan, *, is_carried: bool, dry_run: bool) -> Action:
    if not is_carried:
        if plan.special:
            return "dropped" if plan.drop else "refused"
        return "held" if verdict.failures and verdict.action is Decision.HOLD else "refused"
    if not verdict.failures:
        return "forwarded"
    return "observed" if dry_run or verdict.observed else "marked"


@define(eq=False)
class Preparing:
    """Makes rows of notes, and looks how far messages have drifted from their schemas; in the recorder's thread."""

    alerts: RateLimited
    drift: "Drift | None" = None  # once there was a JSON Schema
    _ruleset: Ruleset | None = None  # that was looked at last

    def __call__(self, notes: Sequence[Note]) -> list[Row]:
        """Return what is written. A note of which none can be made is told and left out."""
        rows = []
        for note in notes:
            try:
                self._look(note)
                rows.append(row_of(_recorded(note)))
            except Exception as error:  # noqa: BLE001 # a bug of ours: no message may stop the proxy by being recorded
                self.alerts.error("recorder_raised", "recorder_raised", exc_info=error)
        return rows

    def _look(self, note: Note) -> None:
        generation = note.ruleset.generation
        if note.ruleset is not self._ruleset:
            self._ruleset = note.ruleset
            if self.drift is None and _has_json_schemas(generation):
                from mqttproxy.validation.drift import Drift  # noqa: PLC0415 - 10 MB that only schemas need

                self.drift = Drift()
        if self.drift is None:
            return
        for policy, place in self.drift.look(note.message, note.identity, note.verdict, generation, generation.number):
            self.alerts.log.info("schema_drift", policy=policy, place=place, topic=note.message.topic)

    def shares(self) -> "Mapping[str, Share]":
        """Return how far messages have drifted, by policy. May be called by another thread."""
        return {} if self.drift is None else self.drift.shares()


def _has_json_schemas(generation: Generation) -> bool:
    checks = (check for policy in generation.policies for check in policy.checks)
    return any(isinstance(check, SchemaCheck) and check.contract.kind == "json" for check in checks)


def make_recording(
    ruleset: Ruleset,
    metrics: Metrics,
    circumstances: Circumstances,
    *,
    now: Callable[[], float],
    to_thread: ToThread,
) -> Recording:
    """Return the way to a recorder, which still must be run, and have `metrics` tell its numbers.

    Args:
        ruleset: in force.
        metrics: of the house.
        circumstances: of the node.
        now: monotonic seconds, for logs.
        to_thread: as `trio.to_thread.run_sync`.

    """
    config = ruleset.config
    preparing = Preparing(RateLimited(log=get_log(component="recorder"), now=now))  # its own: it is used in the thread
    recorder = Recorder(
        config.proxy.data_dir,
        config.recorder,
        preparing,
        now=circumstances.wall,
        to_thread=to_thread,
    )
    numbers = RecorderMetrics(left_out=recorder.left_out)

    def refresh() -> None:
        numbers.recorded, numbers.removed = recorder.recorded, recorder.removed
        numbers.messages, numbers.size_bytes = recorder.messages, recorder.size_bytes
        numbers.pending, numbers.trouble = recorder.pending, int(recorder.trouble is not None)
        shares = preparing.shares()
        numbers.drift_messages = {policy: share.messages for policy, share in shares.items()}
        numbers.drift_unknown = {policy: share.unknown for policy, share in shares.items()}
        numbers.drift_failed = {policy: share.failed for policy, share in shares.items()}

    metrics.more.append(numbers)
    metrics.refresh.append(refresh)
    return Recording(circumstances, recorder, ruleset)


def _recorded(note: Note) -> Recorded:
    message, identity, masker = note.message, note.identity, note.ruleset.masker
    payload = masker.payload(message.payload, message.topic)
    verdict = masker.verdict(note.verdict, message.topic)
    told = Told(
        client_id=identity.client_id,
        username=identity.username,
        address=identity.address,
        listener=identity.listener,
        attributes=identity.attributes,
        qos=message.qos,
        retain=message.retain,
        properties=message.properties,
        action=note.action,
        policy=verdict.policy,
        schema=verdict.schema,
        reason=int(verdict.reason),
        failures=tuple((failure.pointer, failure.keyword, failure.message) for failure in verdict.failures),
        destinations=note.destinations,
        generation=note.ruleset.generation.number,
        masked=_masked(message.payload, payload),
    )
    return Recorded(id=note.id, at=note.at, topic=message.topic, payload=payload, told=told)


def _masked(before: bytes, after: bytes) -> Masked:
    if after is before or after == before:
        return "no"
    return "wholly" if after.startswith(_HIDDEN) else "partly"
