"""Laws of an upstream, whatever broker and network do: the books balance, nothing is lost, order is kept."""

from collections import Counter
from collections.abc import Callable
from functools import partial

import trio
from hypothesis import given, settings as profile, strategies as st
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerLimits
from tests.upstream.broker import FakeBroker, Setting, linked, messages

Step = tuple[str, int]


class Ledger:
    """Does what the steps say, and keeps what must be true."""

    def __init__(self, it: Setting) -> None:
        self.it = it
        self.number = 0
        self.taken: list[tuple[int, int]] = []  # number and QoS
        self.dropped: list[object] = []

    def offer(self, count: int) -> None:
        qos = self.number % 3
        items = messages(count, qos=qos, start=self.number)
        taken = self.it.upstream.offer(items)
        self.taken += [(self.number + index, qos) for index in range(taken)]
        self.number += count

    def force(self, count: int) -> None:
        items = messages(count, qos=1, start=self.number)
        self.dropped += self.it.upstream.force_oldest(items)
        self.taken += [(self.number + index, 1) for index in range(count)]
        self.number += count

    def step(self, what: str, amount: int) -> None:
        broker = self.it.broker
        steps: dict[str, Callable[[], object]] = {
            "offer": partial(self.offer, amount),
            "force": partial(self.force, amount),
            "cut": broker.kill,
            "end": partial(broker.end, ReasonCode.SERVER_BUSY),
            "unreachable": partial(setattr, broker, "unreachable", "connection refused"),
            "reachable": partial(setattr, broker, "unreachable", None),
            "refuse": partial(setattr, broker, "refuse_with", ReasonCode.NOT_AUTHORIZED),
            "accept": partial(setattr, broker, "refuse_with", None),
            "mute": partial(setattr, broker, "is_mute", True),
            "release": partial(self.release, amount),
            "reject": partial(broker.rejects.__setitem__, f"t/{self.number}", ReasonCode.PAYLOAD_FORMAT_INVALID),
            "throttle": partial(broker.rejects.__setitem__, f"t/{self.number}", ReasonCode.QUOTA_EXCEEDED),
            "lower": partial(setattr, broker, "limits", ServerLimits(receive_maximum=amount)),
        }
        if broker.lines or what not in {"cut", "end", "release"}:
            steps[what]()

    def release(self, count: int) -> None:
        if self.it.upstream.is_live:
            self.it.broker.release(count)

    async def heal(self) -> None:
        broker = self.it.broker
        broker.is_mute, broker.unreachable, broker.refuse_with = False, None, None
        broker.rejects = {}
        broker.kill()  # withheld acknowledgements are gone, as with a broker that crashed
        assert await self.it.upstream.drain(trio.current_time() + 3600)

    def check(self, *, keeps: bool) -> None:
        heard, broker = self.it.heard, self.it.broker
        settled = [*heard.tokens, *(token for token, _, _ in heard.refused), *self.dropped]
        assert Counter(settled) == Counter(number for number, qos in self.taken if qos)  # each exactly once
        arrived = [int(topic[2:]) for topic in broker.topics]
        qos_of = dict(self.taken)
        for qos in (1, 2):
            first = list(dict.fromkeys(number for number in arrived if qos_of[number] == qos))
            assert first == sorted(first)
            assert set(heard.tokens) & {n for n, q in self.taken if q == qos} <= set(first)
        if keeps:
            times = Counter(int(topic[2:]) for topic in broker.accepted)
            assert {number for number, count in times.items() if count > 1 and qos_of[number] == 2} == set()


async def live(steps: list[Step], *, keeps: bool) -> None:
    def prepare(broker: FakeBroker) -> None:
        broker.keeps_sessions = keeps
        broker.extra = Properties()

    async with linked(queue_messages=10, in_flight=6, prepare=prepare, keep_alive=0.0) as it:
        ledger = Ledger(it)
        for what, amount in steps:
            if what == "wait":
                await trio.sleep(amount * 5)
            elif what == "turn":
                await trio.lowlevel.checkpoint()
            else:
                ledger.step(what, amount)
            it.upstream.check_books()
            assert it.upstream.queued <= 10 + 6  # what the broker does not want now is back
            assert it.upstream.in_flight <= 6
        await ledger.heal()
        ledger.check(keeps=keeps)


KINDS = [
    "offer", "force", "cut", "end", "unreachable", "reachable", "refuse", "accept", "mute", "release", "reject",
    "throttle", "lower", "wait", "turn",
]  # fmt: skip


@profile(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 8)), max_size=25), st.booleans())
def test_whatever_happens_each_message_ends_exactly_once_and_in_order(steps: list[Step], keeps: bool) -> None:
    trio.run(partial(live, steps, keeps=keeps), clock=MockClock(autojump_threshold=0))
