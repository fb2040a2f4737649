"""An upstream and the probe against a real Mosquitto: what no broker of our own can show."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio

from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.upstream.probe import probe
from mqttproxy.upstream.supervisor import Upstream
from tests.scenarios.mosquitto import Mosquitto, running_brokers
from tests.upstream.broker import Heard, messages, settings
from tests.upstream.test_mapping import mapping
from tests.waiting import PATIENCE

NUMBERS = count()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with running_brokers(tmp_path, "broker") as (one,):
        yield one


@asynccontextmanager
async def linked_to(broker: Mosquitto, **changes: Any) -> AsyncIterator[tuple[Upstream, Heard]]:
    """Run an upstream that has no session at the broker yet, unless `client_id` says so."""
    heard = Heard()
    changes.setdefault("client_id", f"gw-{next(NUMBERS)}")
    upstream = Upstream(
        settings(url=broker.url, backoff_first=0.1, backoff_ceiling=0.2, breaker_failures=1000, **changes),
        proxy_id="gw",
        callbacks=heard.callbacks(),
    )
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upstream.run)
            yield upstream, heard
            upstream.check_books()
            nursery.cancel_scope.cancel()


async def until(look: Callable[[], object]) -> None:
    """Wait for another process: nothing tells us."""
    while not look():  # noqa: ASYNC110  # as it says
        await trio.sleep(0.01)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_go_there_and_come_back_as_they_were(broker: Mosquitto, version: str, qos: int) -> None:
    async with linked_to(broker, version=version) as (upstream, heard):
        upstream.subscribe("t/#", 2)
        assert await upstream.wait_subscribed("t/#") is ReasonCode.GRANTED_QOS_2
        properties = Properties(content_type="text/plain", user_properties=(("a", "1"), ("a", "2")))
        said = [
            (Message(f"t/{number}", f"payload {number}".encode(), qos, False, properties), number if qos else None)
            for number in range(500)
        ]
        assert upstream.offer(said) == 500
        await until(lambda: len(heard.arrived) == 500 and upstream.books.delivered == 500)
        assert heard.tokens == ([] if qos == 0 else list(range(500)))
        for (message, _), arrival in zip(said, heard.arrived, strict=True):
            publish, filters = arrival.publish, arrival.filters
            assert (publish.topic, publish.payload, publish.qos) == (message.topic, message.payload, qos)
            assert filters == (("t/#",) if version == "5" else None)
            if version == "5":
                stamps = (("mqttproxy-hops", "1"), ("mqttproxy-origin", "gw"))
                assert publish.properties.user_properties == (*properties.user_properties, *stamps)
                assert publish.properties.content_type == "text/plain"


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_topics_have_their_names_there_and_their_names_here(broker: Mosquitto, version: str) -> None:
    names = (mapping("plant/{line}/#", "acme/eu/{line}/in/#"),)
    async with (
        linked_to(broker, version=version, topics=names) as (upstream, heard),
        linked_to(broker, client_id="other") as (other, overheard),
    ):
        other.subscribe("#", 1)
        for topic_filter in ("plant/#", "plant/+/#"):
            upstream.subscribe(topic_filter, 1)
        assert await other.wait_subscribed("#") is ReasonCode.GRANTED_QOS_1
        assert await upstream.wait_subscribed("plant/#") is ReasonCode.GRANTED_QOS_1
        assert upstream.offer([(Message("plant/7/x", b"", 1), 1), (Message("plant", b"", 1), 2)]) == 2
        await until(lambda: len(heard.arrived) == len(overheard.arrived) == 2)
        assert [publish.topic for publish in overheard.publishes] == ["acme/eu/7/in/x", "plant"]
        found = [(arrival.publish.topic, arrival.filters) for arrival in heard.arrived]
        if version == "5":
            assert found == [("plant/7/x", ("plant/#", "plant/+/#")), ("plant", ("plant/#",))]
        else:
            assert found == [("plant/7/x", None), ("plant", None)]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_X1_a_broker_killed_under_load_loses_nothing_that_was_offered(broker: Mosquitto, version: str) -> None:
    async with linked_to(broker, version=version, in_flight=50, ack_timeout=2.0) as (upstream, heard):
        offered = 0
        for restarts in range(3):
            await until(lambda: upstream.is_live)
            for _ in range(50):
                offered += upstream.offer(messages(20, start=offered))
                await trio.lowlevel.checkpoint()
                if len(heard.tokens) > 300 * (restarts + 1):
                    break
            broker.kill()
            await until(lambda: not upstream.is_live)
            await trio.to_thread.run_sync(broker.start)
        assert await upstream.drain(trio.current_time() + PATIENCE)
        assert heard.tokens == list(range(offered))
        assert upstream.books.connects >= 3
        await until(lambda: upstream.is_live)  # all may have gone before the last restart


async def test_X4_a_stalled_broker_is_noticed_and_all_is_well_when_it_goes_on(broker: Mosquitto) -> None:
    async with linked_to(broker, ack_timeout=0.5, connect_timeout=0.5) as (upstream, heard):
        await until(lambda: upstream.is_live)
        broker.stall()
        upstream.offer(messages(10))
        await until(lambda: upstream.books.failures >= 2)
        broker.resume()
        await until(lambda: len(heard.tokens) == 10)
        assert heard.tokens == list(range(10))


async def test_a_restarted_proxy_finds_what_came_meanwhile_and_tells_stale_subscriptions(broker: Mosquitto) -> None:
    for version in ("5", "3.1.1"):
        async with linked_to(broker, version=version, client_id="again") as (upstream, _):
            upstream.subscribe("t/#", 1)
            await upstream.wait_subscribed("t/#")
            upstream.subscribe("end", 1)
            await upstream.wait_subscribed("end")
        async with linked_to(broker, version=version) as (other, _):
            other.offer(messages(3))
            assert await other.drain(trio.current_time() + PATIENCE)
        async with linked_to(broker, version=version, client_id="again") as (upstream, heard):
            await until(lambda: len(heard.arrived) == 3)
            assert heard.filters == [None] * 3  # for whoever matches
            upstream.subscribe("end", 1)
            await upstream.wait_subscribed("end")
            upstream.offer([(Message("end", b"", 1), None), *messages(3), (Message("end", b"", 1), None)])
            await until(lambda: [publish.topic for publish in heard.publishes].count("end") == 2)
            stale = 3 if version == "5" else 0  # MQTT 3.1.1 does not say for what it came
            assert len(heard.arrived) == 3 + 2 + 3 - stale
            assert upstream.snapshot().unclaimed == stale
        async with linked_to(broker, version=version, client_id="again", clean_start=True):
            pass


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_what_is_retained_goes_once_to_each_who_asks(broker: Mosquitto, version: str) -> None:
    async with linked_to(broker, version=version) as (upstream, heard):
        upstream.offer([(Message("t", b"kept", 1, True), 1)])
        await until(lambda: heard.tokens)
        for number, device in enumerate(("one", "two", "three"), 1):
            upstream.subscribe("t", 0, retained_for=device)
            while len(heard.arrived) < number:  # noqa: ASYNC110  # as `until`
                await trio.sleep(0.01)
            upstream.subscribe("t", 0)  # wants nothing that is retained
        assert [arrival.retained_for for arrival in heard.arrived] == [("one",), ("two",), ("three",)]
        upstream.subscribe("t", 0, retained_for="four")  # before the answer to the next
        upstream.subscribe("t", 1, retained_for="five")
        upstream.offer([(Message("t", b"live", 1, True), 2)])
        await until(lambda: heard.publishes[-1].payload == b"live")
        assert Counter(name for arrival in heard.arrived for name in arrival.retained_for or ()) == Counter(
            ("one", "two", "three", "four", "five")
        )
        assert [arrival.retained_for for arrival in heard.arrived if arrival.publish.payload == b"live"] == [None]


async def test_the_flag_comes_as_it_was_published_to_those_who_want_it(broker: Mosquitto) -> None:
    async with linked_to(broker) as (upstream, heard):
        upstream.subscribe("t/+", 1)
        upstream.subscribe("t/+", 1, retained_for="flagged", as_published=True)
        assert await upstream.wait_subscribed("t/+") is ReasonCode.GRANTED_QOS_1
        upstream.offer([(Message("t/1", b"", 1, True), 1), (Message("t/2", b"", 1), 2)])
        await until(lambda: len(heard.arrived) == 4)
        found = [
            (arrival.publish.topic, arrival.publish.retain, arrival.filters, arrival.as_published)
            for arrival in heard.arrived
        ]
        both = ("t/+",)
        assert sorted(found) == [
            ("t/1", False, both, ()),
            ("t/1", True, (), both),
            ("t/2", False, (), both),
            ("t/2", False, both, ()),
        ]
        upstream.unsubscribe("t/+", as_published=True)
        heard.arrived.clear()
        upstream.offer([(Message("t/3", b"", 1, True), 3)])
        upstream.offer([(Message("t/4", b"", 1, True), 4)])
        await until(lambda: heard.publishes and heard.publishes[-1].topic == "t/4")
        assert heard.filters == [both, both]


async def test_a_broker_deals_out_a_shared_subscription_among_us_and_others(broker: Mosquitto) -> None:
    async with (
        linked_to(broker) as (upstream, heard),
        linked_to(broker, client_id="other") as (other, overheard),
    ):
        for one in (upstream, other):
            one.subscribe("$share/g/t", 1)
            one.subscribe("$share/g/t", 1)
            assert await one.wait_subscribed("$share/g/t") is ReasonCode.GRANTED_QOS_1
        upstream.offer([(Message("t", b"", 1), number) for number in range(10)])
        await until(lambda: len(heard.arrived) + len(overheard.arrived) == 10)
        assert len(heard.arrived) == len(overheard.arrived) == 5
        assert heard.filters == [("$share/g/t",)] * 5


async def test_the_probe_tells_what_a_real_broker_says(tmp_path: Path) -> None:
    more = "max_inflight_messages 20\nmax_packet_size 5000\n"
    with running_brokers(tmp_path, "open", more=more) as (broker,):
        result = await probe(settings(url=broker.url), "gw")
        assert result.ok
        assert "packets up to 5000 bytes" in result.words
        broker.kill()
        result = await probe(settings(url=broker.url), "gw")
        assert result.words == f"mqtt://127.0.0.1:{broker.port}: connection refused"
