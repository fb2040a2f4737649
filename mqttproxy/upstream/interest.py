"""The topic filters that devices want from one upstream: one subscription for each, counted by reference.

On MQTT 5 each filter has a subscription identifier of its own, so that what arrives says which filters it came for. On
MQTT 3.1.1, or where the broker has no identifiers, it does not say; and whether a message that matches two overlapping
filters arrives once or twice is then the broker's choice. [MQTT-3.3.5-1]
"""

from collections.abc import Iterator
from typing import Final

import trio
from attrs import define, field, frozen

from mqttproxy.mqtt.packets import NO_PROPERTIES, Publish, RetainHandling
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.bell import Bell

UNANSWERED_LIMIT: Final = 1000  # SUBSCRIBE and UNSUBSCRIBE packets on their way at once; packet identifiers are finite
HIGHEST_IDENTIFIER: Final = 268_435_455  # of a subscription. [MQTT-3.8.2.1.2]


@define(eq=False)
class Want:
    """One filter that at least one device wants."""

    topic_filter: str
    identifier: int
    qos: int = 0
    devices: int = 0
    asked: int = 0  # how often it was asked for; the number of an asking
    answered: int = 0  # the newest asking that the broker has answered
    reason: ReasonCode = ReasonCode.SUCCESS
    _answers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    def answer(self, asking: int, reason: ReasonCode) -> None:
        """Note the broker's answer to an asking, which answers all earlier ones."""
        if asking > self.answered:
            self.answered = asking
            self.reason = reason
            self._answers.unpark_all()

    async def wait(self) -> ReasonCode:
        """Wait until everything that was asked so far is answered."""
        asking = self.asked
        await trio.lowlevel.checkpoint()
        while self.answered < asking:
            await self._answers.park()
        return self.reason


@frozen
class Asking:
    """What the link shall send for one filter; `want` None: UNSUBSCRIBE."""

    topic_filter: str
    want: Want | None
    number: int
    retain: RetainHandling


class Interest:
    """What is wanted, what of it is still to be told to the broker, and what the broker has not answered yet.

    It outlives links: each new one is told everything again, because a broker may have forgotten.
    """

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._wants: dict[str, Want] = {}
        self._filters: dict[int, str] = {}  # subscription identifier to filter
        self._to_tell: dict[str, RetainHandling] = {}  # in order; a filter that nobody wants: UNSUBSCRIBE
        self._unanswered: dict[int, Asking] = {}  # by packet identifier
        self._last_identifier = 0

    def __len__(self) -> int:
        """Return how many filters are wanted."""
        return len(self._wants)

    def add(self, topic_filter: str, qos: int) -> None:
        """Count one more device; the subscription has the highest QoS that any of them asked for.

        The broker is asked again each time, so that it sends its retained messages for the new device.
        """
        want = self._wants.get(topic_filter)
        if want is None:
            want = self._wants[topic_filter] = Want(topic_filter, self._next_identifier())
            self._filters[want.identifier] = topic_filter
        want.devices += 1
        want.qos = max(want.qos, qos)
        want.asked += 1
        self._to_tell[topic_filter] = RetainHandling.SEND
        self._bell.ring()

    def remove(self, topic_filter: str) -> None:
        """Count one device less; the last one ends the subscription.

        A filter that nobody wants means nothing: the upstream may have been removed and come back in between.
        """
        want = self._wants.get(topic_filter)
        if want is None:
            return
        want.devices -= 1
        if want.devices:
            return
        del self._wants[topic_filter]
        del self._filters[want.identifier]
        want.answer(want.asked, ReasonCode.NO_SUBSCRIPTION_EXISTED)  # whoever still waits learns that it is over
        self._to_tell[topic_filter] = RetainHandling.SEND
        self._bell.ring()

    async def wait(self, topic_filter: str) -> ReasonCode:
        """Wait for the broker's answer to everything that was asked so far for this filter."""
        want = self._wants.get(topic_filter)
        if want is None:
            await trio.lowlevel.checkpoint()
            return ReasonCode.NO_SUBSCRIPTION_EXISTED
        return await want.wait()

    def begin(self, *, session_present: bool) -> None:
        """A link came up: tell it everything. A broker that kept the session has missed nothing that is retained."""
        retain = RetainHandling.DO_NOT_SEND if session_present else RetainHandling.SEND
        to_tell = dict.fromkeys(self._wants, retain)
        if session_present:
            ended = [asking.topic_filter for asking in self._unanswered.values() if asking.want is None]
            to_tell |= {name: retain for name in (*ended, *self._to_tell) if name not in self._wants}
        new = {name for name, want in self._wants.items() if want.answered < want.asked}
        to_tell |= dict.fromkeys(new, RetainHandling.SEND)
        self._unanswered.clear()
        self._to_tell = to_tell

    def askings(self) -> Iterator[Asking]:
        """Yield what is to be told now. Each must be told (`sent`) or answered (`Want.answer`) before the next."""
        while self._to_tell and len(self._unanswered) < UNANSWERED_LIMIT:
            topic_filter = next(iter(self._to_tell))
            retain = self._to_tell.pop(topic_filter)
            want = self._wants.get(topic_filter)
            yield Asking(topic_filter, want, want.asked if want else 0, retain)

    def sent(self, packet_id: int, asking: Asking) -> None:
        """Note under which packet identifier the broker will answer."""
        self._unanswered[packet_id] = asking

    def answered(self, packet_id: int, reason: ReasonCode) -> None:
        """Take a SUBACK's or UNSUBACK's reason; one that was not asked for means nothing."""
        asking = self._unanswered.pop(packet_id, None)
        if asking is not None and asking.want is not None:
            asking.want.answer(asking.number, reason)
        if self._to_tell:
            self._bell.ring()

    @property
    def has_news(self) -> bool:
        """True if there is something to tell the broker."""
        return bool(self._to_tell)

    def filters_of(self, publish: Publish) -> tuple[str, ...] | None:
        """Return the filters this message came for; those that nobody wants any more are left out. None: not known."""
        if publish.properties is NO_PROPERTIES or not publish.properties.subscription_identifiers:
            return None
        filters = self._filters
        return tuple([filters[number] for number in publish.properties.subscription_identifiers if number in filters])

    def _next_identifier(self) -> int:
        # Never one that was used before (until they wrap after 268 million): messages for it may still be on their way.
        while True:
            self._last_identifier = self._last_identifier % HIGHEST_IDENTIFIER + 1
            if self._last_identifier not in self._filters:
                return self._last_identifier
