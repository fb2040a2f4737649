"""The `$SYS` tree: the names that dashboards know, averages that fade, and no message that nobody wants."""

import math
from collections.abc import Sequence

import pytest

from mqttproxy.mqtt.topics import check_topic_name, matches
from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.telemetry.systree import Kept, Load, SysTree, Value, sys_values

# What Mosquitto 2 publishes, but for its memory, and payload bytes, which we do not count.
USUAL = set(
    """
bytes/received bytes/sent clients/active clients/connected clients/disconnected clients/expired clients/inactive
clients/maximum clients/total messages/received messages/sent messages/stored publish/messages/dropped
publish/messages/received publish/messages/sent shared_subscriptions/count store/messages/bytes store/messages/count
subscriptions/count uptime version
""".split()  # noqa: SIM905 - a list would take a line for each
)
LOADS = set(
    """
bytes/received bytes/sent connections messages/received messages/sent publish/dropped publish/received publish/sent
sockets
""".split()  # noqa: SIM905 - a list would take a line for each
)


class House:
    def __init__(self) -> None:
        self.now = 0.0
        self.metrics = Metrics(version="1.2.3", now=lambda: self.now)
        self.kept = Kept()
        self.wanted = "$SYS/#"
        self.delivered: list[list[Value]] = []
        self.tree = SysTree(
            self.metrics,
            deliver=self.deliver,
            is_wanted=lambda topic: bool(self.wanted) and matches(self.wanted, topic),
            matches=matches,
            kept=lambda: self.kept,
        )

    def deliver(self, values: Sequence[Value]) -> None:
        self.delivered.append(list(values))

    def tick(self, after: float = 10.0) -> dict[str, str]:
        """Let time pass; return what was delivered then."""
        self.now += after
        self.delivered.clear()
        self.tree.tick(self.now)
        return dict(self.delivered[0]) if self.delivered else {}


def test_the_usual_names_are_there_and_all_are_topic_names() -> None:
    told = House().tick()
    expected = {f"$SYS/broker/{name}" for name in USUAL | {"retained messages/count"}}
    expected |= {f"$SYS/broker/load/{name}/{period}" for name in LOADS for period in ("1min", "5min", "15min")}
    assert told.keys() == expected
    for topic in told:
        check_topic_name(topic)


def test_the_numbers_are_those_of_the_house() -> None:
    house = House()
    metrics = house.metrics
    metrics.received_by_qos = [1, 2, 3]
    metrics.delivered_down, metrics.bytes_in, metrics.bytes_out = 4, 5, 7
    metrics.dropped_down.add("queue_full", 8)
    metrics.active_connections.add("plain", 9)
    metrics.refresh.append(lambda: setattr(metrics, "retained_messages", 10))
    metrics.retained_bytes, metrics.subscriptions = 11, 12
    house.kept = Kept(disconnected=20, expired=21, messages=22, message_bytes=23, shared_subscriptions=24)
    told = {topic.removeprefix("$SYS/broker/"): text for topic, text in house.tick(61.5).items()}
    wanted = {
        "version": "mqttproxy version 1.2.3", "uptime": "61 seconds", "bytes/received": "5", "bytes/sent": "7",
        "clients/connected": "9", "clients/active": "9", "clients/maximum": "9", "clients/total": "29",
        "clients/disconnected": "20", "clients/inactive": "20", "clients/expired": "21", "messages/received": "6",
        "messages/sent": "4", "messages/stored": "32", "publish/messages/received": "6", "publish/messages/sent": "4",
        "publish/messages/dropped": "8", "retained messages/count": "10", "store/messages/count": "32",
        "store/messages/bytes": "34", "subscriptions/count": "12", "shared_subscriptions/count": "24",
    }  # fmt: skip
    assert {name: told[name] for name in wanted} == wanted


def test_the_most_that_were_connected_are_remembered() -> None:
    house = House()
    house.metrics.active_connections.add("plain", 5)
    house.tick()
    house.metrics.active_connections.add("plain", -3)
    house.tick()
    assert dict(house.tree.match("$SYS/broker/clients/maximum")) == {"$SYS/broker/clients/maximum": "5"}


def test_upstreams_are_told_as_mosquitto_tells_its_bridges() -> None:
    metrics = Metrics()
    metrics.destinations = lambda: (
        DestinationSnapshot(name="a", kind="mqtt", connected=True),
        DestinationSnapshot(name="b", kind="mqtt", connected=False),
        DestinationSnapshot(name="local", kind="local", connected=True),
        DestinationSnapshot(name="not/a/level", kind="mqtt", connected=True),
    )
    states = {topic: text for topic, text in sys_values(metrics, Kept(), 0) if "/connection/" in topic}
    assert states == {"$SYS/broker/connection/a/state": "1", "$SYS/broker/connection/b/state": "0"}


def test_only_what_changed_is_delivered() -> None:
    house = House()
    house.tick()
    house.metrics.subscriptions = 3
    assert house.tick() == {"$SYS/broker/uptime": "20 seconds", "$SYS/broker/subscriptions/count": "3"}


def test_only_what_somebody_is_subscribed_to_is_delivered() -> None:
    house = House()
    house.wanted = "$SYS/broker/clients/+"
    assert len(house.tick()) == 7
    house.wanted = ""
    house.metrics.active_connections.add("plain", 5)
    assert house.tick() == {}
    assert house.delivered == []


def test_a_new_subscriber_gets_the_values_of_the_last_tick() -> None:
    house = House()
    assert list(house.tree.match("$SYS/#")) == []
    told = house.tick()
    house.metrics.subscriptions = 3
    assert dict(house.tree.match("$SYS/#")) == told
    assert dict(house.tree.match("$SYS/broker/+/count")).keys() == {
        "$SYS/broker/retained messages/count", "$SYS/broker/subscriptions/count",
        "$SYS/broker/shared_subscriptions/count",
    }  # fmt: skip


@pytest.mark.parametrize("topic_filter", ["#", "+/#", "+/broker/uptime", "$SYS", "$SYSTEM/#", "broker/uptime"])
def test_other_filters_do_not_find_it(topic_filter: str) -> None:
    house = House()
    house.tick()
    assert list(house.tree.match(topic_filter)) == []


def test_the_value_of_an_upstream_that_is_gone_is_gone() -> None:
    house = House()
    house.metrics.destinations = lambda: (DestinationSnapshot(name="a", kind="mqtt", connected=True),)
    house.tick()
    house.metrics.destinations = lambda: ()
    house.tick()
    assert list(house.tree.match("$SYS/broker/connection/#")) == []


class TestLoad:
    def test_a_steady_rate_is_approached(self) -> None:
        load = Load(0)
        for step in range(1, 1001):
            load.grow(step * 100, 10.0)  # 600 a minute
        assert load.averages == pytest.approx([600, 600, 600], rel=1e-4)

    def test_one_minute_after_a_burst_the_short_average_is_down_to_a_third(self) -> None:
        load = Load(0)
        load.grow(100, 1.0)
        peak = load.averages[0]
        assert peak == pytest.approx(6000 * (1 - math.exp(-1 / 60)))
        load.grow(100, 60.0)
        assert load.averages[0] == pytest.approx(peak / math.e)

    def test_how_often_it_is_looked_at_does_not_matter_for_a_steady_rate(self) -> None:
        often, seldom = Load(0), Load(0)
        for step in range(1, 61):
            often.grow(step, 1.0)
        seldom.grow(60, 60.0)
        assert often.averages == pytest.approx(seldom.averages)

    def test_no_time_is_no_growth(self) -> None:
        load = Load(0)
        load.grow(5, 0.0)
        assert load.averages == [0.0] * 3
        load.grow(5, 60.0)
        assert load.averages[0] > 0
