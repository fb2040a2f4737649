"""What `mqttproxy quarantine release --preview` shows: messages before and after, and how they would be judged."""

import json as json_module
from functools import partial
from typing import Any, Final

from attrs import field, frozen
from msgspec.structs import replace

from mqttproxy.cli.answered import answered
from mqttproxy.cli.held_masks import NO_VEIL, Veil
from mqttproxy.cli.held_options import messages_of
from mqttproxy.cli.held_output import printable
from mqttproxy.cli.output import complain, say
from mqttproxy.mending import MendingError, identity_of, judged, mended
from mqttproxy.mqtt.packets import Message
from mqttproxy.quarantine.archive import Archive
from mqttproxy.quarantine.model import Record
from mqttproxy.quarantine.releases import Order
from mqttproxy.recipe import Mend
from mqttproxy.validation import Failure, Generation, Identity, Verdict
from mqttproxy.validation.plugins import Answers

_CUT: Final = 2000  # letters of a payload


@frozen
class _Shown:
    """A message: as it was held, as it would go (None: it cannot be mended), and why it would fail again."""

    record: Record
    payload: bytes
    after: Message | None
    failures: tuple[Failure, ...]


@frozen
class Preview:
    """What would become of messages. `now`: seconds since 1970."""

    order: Order
    mend: Mend | None
    generation: Generation
    now: float
    veil: Veil = NO_VEIL
    answers: Answers = field(factory=Answers)  # of plug-ins

    def show(self, archive: Archive, most: int, *, json: bool) -> int:
        """Show the oldest of what is ordered; returns the exit code."""
        shown = fails = 0
        for record in archive.search(self.order.filters, limit=most, oldest_first=True):
            payload = archive.payload(record)
            if payload is not None:
                one = self._look_at(record, payload)
                shown += 1
                fails += bool(one.failures)
                if json:
                    say(json_module.dumps(_document(self._veiled(one))))
                else:
                    _describe(self._veiled(one))
        complain(f"{messages_of(shown)} shown, of which {fails} would fail again; nothing is released")
        return 0

    def _veiled(self, one: _Shown) -> _Shown:
        """Return it as it may be shown."""
        veil, topic, after = self.veil, one.record.topic, one.after
        failures = veil.masker.failures(one.failures, topic if after is None else after.topic)
        if after is not None:
            after = replace(after, payload=veil.payload(after.payload, after.topic))
        return _Shown(veil.record(one.record), veil.payload(one.payload, topic), after, failures)

    def _look_at(self, record: Record, payload: bytes) -> _Shown:
        held = record.with_payload(payload)
        try:
            message = mended(held, self.order.options, self.mend, age=self.now - held.at, now=0.0)
        except MendingError as error:
            return _Shown(record, payload, None, error.verdict.failures)
        return answered(self, partial(self._judge, record, payload, message, identity_of(held)))

    def _judge(self, record: Record, payload: bytes, message: Message, identity: Identity) -> _Shown:
        try:
            message, _ = judged(message, identity, self.generation, _raise, self.answers)
        except MendingError as error:
            return _Shown(record, payload, message, error.verdict.failures)
        return _Shown(record, payload, message, ())


def _raise(error: Exception) -> Verdict:
    raise error


def _document(one: _Shown) -> dict[str, Any]:
    return {
        "id": one.record.id,
        "passes": not one.failures,
        "before": {"topic": one.record.topic, "payload": _text(one.payload)},
        "after": None if one.after is None else {"topic": one.after.topic, "payload": _text(one.after.payload)},
        "failures": [
            {"pointer": each.pointer, "keyword": each.keyword, "message": each.message} for each in one.failures
        ],
    }


def _describe(one: _Shown) -> None:
    say(f"{one.record.id}  {'would fail again' if one.failures else 'would go'}")
    say(f"  - {printable(one.record.topic)}  {_cut(one.payload)}")
    if one.after is not None:
        say(f"  + {printable(one.after.topic)}  {_cut(one.after.payload)}")
    for failure in one.failures:
        say(f"    {printable(failure.pointer) or 'whole payload'}: {failure.keyword}: {printable(failure.message)}")


def _text(payload: bytes) -> str:
    return payload.decode(errors="backslashreplace")


def _cut(payload: bytes) -> str:
    text = printable(_text(payload))
    return text if len(text) <= _CUT else f"{text[:_CUT]}…"
