"""Anything may happen to the pipeline in any order, and its laws hold after each step (promises P1, P3 and P9)."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import trio
from attrs import define, field
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.spool.rows import RunRow
from tests.client import Client
from tests.fake_rooms import FakeUpstream
from tests.house import POLICY, House, open_house, route, upstream

WALK = (
    '[default]\nunrouted = "refuse"\n[spool]\nqueue_messages = 5\n'
    + upstream("a")
    + upstream("b")
    + upstream("c")
    + POLICY
    + route("a", "b", topics="spool/#")
    + route("a", "b", topics="all/#", more='ack = "all"')
    + route("a", "b", topics="any/#", more='ack = "any"')
    + route("a", "b", topics="memory/#", more='ack = "memory"')
    + route("a", "b", topics="newest/#", more='ack = "all"\nwhen_full = "drop_newest"')
    + route("b", "c", topics="oldest/#", more='ack = "memory"\nwhen_full = "drop_oldest"')
    + route("local", topics="local/#")
    + route("a", topics="n/#", more='ack = "all"')
)
KINDS = ("spool", "all", "any", "memory", "newest", "oldest", "local", "n", "nowhere")
DEVICES = ("x", "y")

STEPS = st.one_of(
    st.tuples(
        st.just("publish"),
        st.sampled_from(DEVICES),
        st.lists(
            st.tuples(st.sampled_from(KINDS), st.sampled_from([0, 1, 1, 2]), st.booleans()), min_size=1, max_size=6
        ),
    ),
    st.tuples(st.just("settle"), st.sampled_from("abc"), st.lists(st.integers(0, 9), max_size=4, unique=True)),
    st.tuples(st.just("refuse"), st.sampled_from("abc"), st.lists(st.integers(0, 9), max_size=2, unique=True)),
    st.tuples(st.just("commit"), st.none(), st.integers(0, 3)),
    st.tuples(st.just("journal"), st.none(), st.sampled_from(["commit", "stop", "go"])),
    st.tuples(st.just("bound"), st.sampled_from("abcq"), st.integers(0, 6)),
    st.tuples(st.just("reconnect"), st.sampled_from(DEVICES), st.booleans()),
    st.tuples(st.just("sleep"), st.none(), st.just(1)),
)


@define
class Walk:
    """Some devices, what each has sent over its present connection, and what it must be true of it."""

    house: House
    clients: dict[str, Client] = field(factory=dict)
    sent: dict[str, list[tuple[str, Message]]] = field(factory=lambda: defaultdict(list))  # kind and message
    count: int = 0

    async def connect(self, client_id: str) -> None:
        self.clients[client_id] = await self.house.connect(client_id)
        self.sent[client_id] = []

    async def publish(self, client_id: str, wanted: list[tuple[str, int, bool]]) -> None:
        messages = []
        for kind, qos, good in wanted:
            self.count += 1
            payload = b"%d" % self.count if good else b'"%d"' % self.count
            message = Message(f"{kind}/{client_id}", payload, qos)
            messages.append(message)
            if qos:
                self.sent[client_id].append((kind, message))
        room = self.clients[client_id].connection.send_quota
        if sum(message.qos > 0 for message in messages) <= room:
            self.clients[client_id].publish(*messages)
        else:
            del self.sent[client_id][-sum(message.qos > 0 for message in messages) :]

    async def settle(self, name: str, positions: list[int]) -> None:
        there = [position for position in positions if position < len(self.house.upstreams[name].taken)]
        if there:
            self.house.upstreams[name].settle(*there)

    async def refuse(self, name: str, positions: list[int]) -> None:
        there = [position for position in positions if position < len(self.house.upstreams[name].taken)]
        if there:
            self.house.upstreams[name].refuse(ReasonCode.NOT_AUTHORIZED, *there)

    async def commit(self, _: None, count: int) -> None:
        self.house.quarantine.commit(count)

    async def journal(self, _: None, what: str) -> None:
        """Commit what waits; or wait for that from now on, or not."""
        self.house.journal.at_once = what == "go" or (what == "commit" and self.house.journal.at_once)
        if what != "stop":
            self.house.journal.commit()

    async def bound(self, name: str, messages: int) -> None:
        if name == "q":
            self.house.quarantine.bound = messages
            return
        upstream_ = self.house.upstreams[name]
        upstream_.bound = messages
        upstream_._tell_room()

    async def reconnect(self, client_id: str, cut: bool) -> None:  # a step's argument
        if cut:
            self.clients[client_id].cut()
            await self.house.settle()
        await self.connect(client_id)

    async def sleep(self, _: None, seconds: int) -> None:
        await trio.sleep(seconds)

    def check(self) -> None:
        self.house.check_books()
        for destination in self.house.upstreams.values():
            check_order(destination)
        kept = {held.payload for held in self.house.quarantine.kept}
        for client_id, client in self.clients.items():
            assert client.ended_at is None, client.goodbye
            told, sent = client.acknowledged, self.sent[client_id]
            # Each exactly once, in arrival order over all QoS.
            assert [packet_id for packet_id, _ in told] == list(range(1, len(told) + 1))
            for (_, reason), (kind, message) in zip(told, sent, strict=False):
                self.check_promise(kind, message, reason, kept)

    def check_promise(self, kind: str, message: Message, reason: int, kept: set[bytes]) -> None:
        """The message is where the acknowledgement says it is."""
        payload = message.payload
        a, b, c = self.house.upstreams.values()

        def has(destination: FakeUpstream) -> bool:
            return payload in destination.settled or (payload in destination.refusals and payload in kept)

        def may_lack(destination: FakeUpstream) -> bool:
            return has(destination) or payload not in destination.ever_taken

        if kind == "nowhere":
            assert reason == ReasonCode.TOPIC_NAME_INVALID
            return
        if kind == "n" and payload.startswith(b'"'):
            assert reason == ReasonCode.PAYLOAD_FORMAT_INVALID
            assert payload in kept - a.ever_taken
            return
        promise: dict[str, Callable[[], bool]] = {
            "spool": lambda: payload in self.committed(),
            "all": lambda: has(a) and has(b),
            "any": lambda: payload in a.settled | b.settled or (has(a) and has(b)),
            "memory": lambda: payload in a.ever_taken & b.ever_taken,
            "newest": lambda: may_lack(a) and may_lack(b),
            "oldest": lambda: payload in b.ever_taken & c.ever_taken,
            "n": lambda: has(a),
            "local": lambda: True,
        }
        assert promise[kind](), (kind, message)
        assert reason == ReasonCode.SUCCESS or payload in a.refusals | b.refusals | c.refusals

    def committed(self) -> set[bytes]:
        """Return what the spool has on disk."""
        rows = self.house.journal.durable
        return {item[0].payload for row in rows if isinstance(row, RunRow) for item in row.batch.items}

    async def finish(self) -> None:
        """Make room everywhere, answer everything: then everything is acknowledged."""
        house = self.house
        house.quarantine.bound = 1000
        await self.journal(None, "go")
        for destination in house.upstreams.values():
            destination.bound = 1000
        for _ in range(30):
            for destination in house.upstreams.values():
                destination.settle()
            house.quarantine.commit()
            await trio.sleep(1)
            self.check()
        for client_id, client in self.clients.items():
            assert len(client.acknowledged) == len(client.settled) == len(self.sent[client_id])
        assert house.metrics.waiting == 0
        assert not any(lane.waiting for lane in house.lanes.values())
        spool = house.pipeline.spool
        assert (spool.size, spool.messages, spool.pending, spool.pending_bytes) == (0, 0, 0, 0)
        assert house.pipeline.spool_lanes.waiting == 0
        for feed in spool.feeds.values():
            assert (feed.cursor, feed.is_lagging, feed.dropped.keys() <= {"connection_lost", "spool_full"}) == (
                feed.tip,
                False,
                True,
            )


def check_order(destination: FakeUpstream) -> None:
    """Promise P3, and nothing comes twice: the payloads count up."""
    last: dict[tuple[str, int], int] = {}
    for message in destination.arrived:
        number = int(message.payload.strip(b'"'))
        assert number > last.get((message.topic, message.qos), 0)
        last[message.topic, message.qos] = number


async def walk(steps: list[tuple[str, Any, Any]], turns: bool) -> None:
    async with open_house(WALK, turns=turns) as house:
        under_way = Walk(house)
        for client_id in DEVICES:
            await under_way.connect(client_id)
        for name, first, second in steps:
            await getattr(under_way, name)(first, second)
            await house.settle()
            under_way.check()
        await under_way.finish()


@settings(max_examples=80)
@given(st.lists(STEPS, max_size=25), st.booleans())
def test_whatever_happens_books_balance_and_an_acknowledgement_keeps_its_promise(
    steps: list[tuple[str, Any, Any]], turns: bool
) -> None:
    trio.run(walk, steps, turns, clock=MockClock(autojump_threshold=0))
