"""The topic filters that devices want from one upstream: one subscription for each, counted by reference.

On MQTT 5 each asking (SUBSCRIBE) has a subscription identifier of its own. So what arrives says which filter it came
for, by any identifier that the filter had; and a retained message says which asking brought it, and so for whom it is.
Identifiers begin at a number of chance, so that those of an earlier process in the same session are known as foreign.

Where the broker has no identifiers (MQTT 3.1.1), `askers` makes up for them as well as can be; and whether a message
that matches two overlapping filters arrives once or twice is then the broker's choice. [MQTT-3.3.5-1]
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

import trio
from attrs import define, field, frozen

from mqttproxy.mqtt.packets import RetainHandling
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.topics import SHARE
from mqttproxy.upstream.bell import Bell

UNANSWERED_LIMIT: Final = 1000  # SUBSCRIBE and UNSUBSCRIBE packets on their way at once; packet identifiers are finite
# Subscription identifiers have 28 bits [MQTT-3.8.2.1.2]. The first marks what `Interest.add` calls a copy, for later
# processes too; the others are a number.
COPY: Final = 1 << 27
HIGHEST_NUMBER: Final = COPY - 1
# Identifiers that another one has replaced and that are still known: messages that waited at the broker carry them.
FORMER_LIMIT: Final = 20_000

# Stands for every device that wants a filter. A broker that has lost our session may have lost messages with it; what
# it retains tells all who were subscribed before how things stand now.
EVERYBODY: Final = object()


@define(eq=False)
class Want:
    """One filter that at least one device wants."""

    topic_filter: str
    identifier: int = 0  # of the newest asking
    qos: int = 0
    devices: int = 0
    asked: int = 0  # how often it was asked for; the number of an asking
    answered: int = 0  # the newest asking that the broker has answered
    reason: ReasonCode = ReasonCode.SUCCESS
    is_copy: bool = False
    is_active: bool = False  # the broker has granted it to the session that we have there now
    _answers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot)

    def answer(self, asking: int, reason: ReasonCode) -> None:
        """Note the broker's answer to an asking, which answers all earlier ones."""
        self.is_active = not reason.is_failure
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
    """What the link shall send for one filter; `want` None: UNSUBSCRIBE.

    `retained_for`: whose asking it is; what the broker retains is for them.
    """

    topic_filter: str
    want: Want | None
    number: int = 0
    identifier: int = 0
    retained_for: tuple[object, ...] = ()

    @property
    def retain_handling(self) -> RetainHandling:
        """What the broker shall do with its retained messages."""
        return RetainHandling.SEND if self.retained_for else RetainHandling.DO_NOT_SEND


class Interest:
    """What is wanted, what of it is still to be told to the broker, and what the broker has not answered yet.

    It outlives links: each new one is told everything again, because a broker may have forgotten.

    Attributes:
        is_adopted: the session at the broker is one that an earlier process began.

    Args:
        bell: rung when there is news.
        first: the number before that of the first subscription identifier, below HIGHEST_NUMBER.

    """

    def __init__(self, bell: Bell, first: int = 0) -> None:
        self.is_adopted = False
        self._bell = bell
        self._first = first
        self._given = 0  # how many identifiers from there on are ours
        self._has_begun = False
        self._fence: int | None = None  # of those given, the last of the first telling of everything; None: not told
        self._is_past_fence = False
        self._wants: dict[str, Want] = {}
        self._askings: dict[int, Asking] = {}  # by subscription identifier: the newest of each filter, and former ones
        self._former: deque[int] = deque()
        self._to_tell: dict[str, list[object]] = {}  # in order: a filter, and who waits for what is retained
        self._unanswered: dict[int, Asking] = {}  # by packet identifier

    def __len__(self) -> int:
        """Return how many filters are wanted."""
        return len(self._wants)

    def add(self, topic_filter: str, qos: int, retained_for: object | None = None, *, is_copy: bool = False) -> None:
        """Count one more device; the subscription has the highest QoS that any of them asked for.

        The broker is asked again if that says something new: a higher QoS, somebody who waits for what is retained, or
        a filter that was refused before. A copy brings nothing but what another filter brings too.
        """
        want = self._wants.get(topic_filter)
        if want is None:
            want = self._wants[topic_filter] = Want(topic_filter, is_copy=is_copy)
        want.devices += 1
        is_asked = want.asked and not want.reason.is_failure
        if is_asked and qos <= want.qos and retained_for is None:
            return
        want.qos = max(want.qos, qos)
        want.asked += 1
        waiting = self._to_tell.setdefault(topic_filter, [])
        if retained_for is not None:
            waiting.append(retained_for)
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
        self._retire(want.identifier)
        want.answer(want.asked, ReasonCode.NO_SUBSCRIPTION_EXISTED)  # whoever still waits learns that it is over
        self._to_tell[topic_filter] = []
        self._bell.ring()

    async def wait(self, topic_filter: str) -> ReasonCode:
        """Wait for the broker's answer to everything that was asked so far for this filter."""
        want = self._wants.get(topic_filter)
        if want is None:
            await trio.lowlevel.checkpoint()
            return ReasonCode.NO_SUBSCRIPTION_EXISTED
        return await want.wait()

    def begin(self, *, session_present: bool) -> None:
        """A link came up: tell it everything.

        A broker that kept the session has missed nothing, and sends what it retains only to those who still wait for
        it. From one that did not, everybody hears of it.
        """
        self.is_adopted = session_present and (self.is_adopted or not self._has_begun)
        self._has_begun = True
        self._fence, self._is_past_fence = None, False
        waiting: dict[str, list[object]] = {}
        for asking in self._unanswered.values():
            if asking.want is not None:
                waiting.setdefault(asking.topic_filter, []).extend(asking.retained_for)
        to_tell: dict[str, list[object]] = {}
        wants = list(self._wants.items())
        if self.is_adopted:  # copies first: when the others come under our numbers, so do they
            wants.sort(key=lambda item: not item[1].is_copy)
        for name, want in wants:
            to_tell[name] = [*waiting.get(name, ()), *self._to_tell.get(name, ())]
            # Nothing retained comes for a shared filter; there are brokers that send it, and we would take it for live.
            if want.answered and not session_present and not name.startswith(SHARE):
                to_tell[name].append(EVERYBODY)
        if session_present:
            ended = [asking.topic_filter for asking in self._unanswered.values() if asking.want is None]
            to_tell |= {name: [] for name in (*ended, *self._to_tell) if name not in self._wants}
        else:
            self._askings.clear()
            self._former.clear()
            for want in self._wants.values():
                want.identifier, want.is_active = 0, False
        self._unanswered.clear()
        self._to_tell = to_tell

    def askings(self) -> Iterator[Asking]:
        """Yield what is to be told now. Each must be told (`sent`) or answered (`Want.answer`) before the next."""
        while self._to_tell and len(self._unanswered) < UNANSWERED_LIMIT:
            topic_filter = next(iter(self._to_tell))
            retained_for = tuple(self._to_tell.pop(topic_filter))
            want = self._wants.get(topic_filter)
            if want is None:
                yield Asking(topic_filter, None)
                continue
            self._retire(want.identifier)
            want.identifier = self._next_identifier(want.is_copy)
            asking = Asking(topic_filter, want, want.asked, want.identifier, retained_for)
            self._askings[want.identifier] = asking
            yield asking
        if self._fence is None and not self._to_tell:
            self._fence = self._given

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

    def is_active(self, topic_filter: str) -> bool:
        """Say whether the broker has granted a filter, and so sends what is for it."""
        want = self._wants.get(topic_filter)
        return want is not None and want.is_active

    def asking_of(self, identifier: int) -> Asking | None:
        """Return what was asked for under a subscription identifier, wanted still or not. None: not known."""
        return self._askings.get(identifier)

    def is_stale(self, identifiers: tuple[int, ...], qos: int) -> bool:
        """Say whether a message of an adopted session came for subscriptions that nobody has renewed.

        What an earlier process has subscribed to stands until it is asked for again, and what came until then is
        wanted. A message that carries the last number of the first telling, or a later one, came after all was asked
        for again; as brokers keep the order (at QoS 0 they may not), so did all behind it.
        """
        if not identifiers:
            return False
        numbers = [number for one in identifiers if (number := self._number(one)) is not None]
        if numbers and qos and self._fence is not None and max(numbers) >= self._fence:
            self._is_past_fence = True
        # A foreign copy cannot be told from what it is a copy of, once it is not known whom it is for.
        return not numbers and (self._is_past_fence or all(one & COPY for one in identifiers))

    def _number(self, identifier: int) -> int | None:
        """Return which of those that we have given out an identifier is, from 1 on; None: it is foreign."""
        number = ((identifier & ~COPY) - self._first - 1) % HIGHEST_NUMBER + 1
        return number if number <= self._given else None

    def _retire(self, identifier: int) -> None:
        if not identifier:
            return
        self._former.append(identifier)
        if len(self._former) > FORMER_LIMIT:
            self._askings.pop(self._former.popleft(), None)

    def _next_identifier(self, is_copy: bool) -> int:
        # They go round after 134 million, past those still known: messages for these may still be on their way.
        while True:
            identifier = ((self._first + self._given) % HIGHEST_NUMBER + 1) | (COPY if is_copy else 0)
            self._given += 1
            if identifier not in self._askings:
                return identifier
