"""Retained messages and wills as rows of the journal, and back."""

from collections.abc import Iterable
from typing import Final

from mqttproxy.journal import Journal
from mqttproxy.mqtt.packets import Message, Timed, Will
from mqttproxy.sessions.records import RetainedRow, WillRow
from mqttproxy.sessions.wills import NEVER, PendingWill


class Notes:
    """Notes what `RetainedStore` and `Wills` have, and gives back what was there at the start."""

    def __init__(self, journal: Journal) -> None:
        self._journal: Final = journal
        self._last_will = 0  # the highest number that was noted: a higher one is new

    def retained(self, topic: str, message: Message | None, is_new: bool = False, sender: str = "") -> None:
        """Note the retained message of a topic and who sent it, None: there is none now. `is_new`: there was none."""
        if message is None:
            self._journal.remove(RetainedRow, topic)
            return
        over = self._journal.to_wall(message)
        row = RetainedRow(topic, message.payload, message.qos, message.properties, over, sender)
        if is_new:
            self._journal.add(row)
        else:
            self._journal.put(row)

    def will(self, number: int, will: PendingWill | None) -> None:
        """Note what stands under this number from now on, None: nothing."""
        if will is None:
            self._journal.remove(WillRow, number)
            return
        due = None if will.due == NEVER else self._journal.wall_of(will.due)
        message = will.message
        row = WillRow(
            number,
            will.client_id,
            will.username,
            will.address,
            will.listener,
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            will.delay,
            due,
            message.properties,
            will.attributes,
        )
        if number > self._last_will:
            self._last_will = number
            self._journal.add(row)
        else:
            self._journal.put(row)

    def retained_at_start(self) -> Iterable[tuple[Message, str]]:
        """Yield the retained messages of the start and who sent them, once, for `RetainedStore.restore`."""
        for row in self._journal.take_loaded(RetainedRow):
            if row.expires_at is None:
                yield Message(row.topic, row.payload, row.qos, True, row.properties), row.sender
            else:
                over = self._journal.to_monotonic(row.expires_at)
                yield Timed(row.topic, row.payload, row.qos, True, row.properties, over), row.sender

    def wills_at_start(self) -> Iterable[PendingWill]:
        """Yield the wills of the start, once, for `Wills.restore`."""
        rows = self._journal.take_loaded(WillRow)
        self._last_will = max((row.number for row in rows), default=0)
        for row in rows:
            message = Will(row.topic, row.payload, row.qos, row.retain, row.properties)
            due = self._journal.to_monotonic(row.due)
            yield PendingWill(
                row.client_id,
                row.username,
                row.address,
                row.listener,
                message,
                row.delay,
                due,
                row.number,
                row.attributes,
            )
