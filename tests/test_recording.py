"""What the recorder is given: by the real corridor, with a recorder that keeps what it is offered."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from attrs import define, field
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.passport import Passports
from mqttproxy.recorder import Recorded, Recorder
from mqttproxy.recorder.model import Row, decode_told
from mqttproxy.recording import Circumstances, Note, Preparing, Recording, make_recording
from mqttproxy.telemetry.exposition import MetricsCollector
from mqttproxy.telemetry.logs import RateLimited
from tests.fake_rooms import FakeLog, in_place
from tests.house import POLICY, WALL, House, open_house, route, upstream

ON = "[recorder]\nenabled = true\n"
TWO = upstream("a") + upstream("b")


class Kept(Recorder[Note]):
    """Prepares what it is offered at once, and keeps it."""

    def __init__(self, house: House) -> None:
        self.log = FakeLog()
        self.rows: list[Row] = []
        super().__init__(
            Path("/unused"), house.pipeline.ruleset.config.recorder, Preparing(RateLimited(log=self.log)),
            to_thread=in_place,
        )  # fmt: skip

    def offer(self, notes: Sequence[Note], size: int) -> None:
        assert size == sum(len(note.message.payload) for note in notes)
        self.rows += self._prepare(notes)

    @property
    def found(self) -> list[Recorded]:
        return [
            Recorded(id=name, at=at, topic=topic, payload=payload, told=decode_told(told))
            for name, at, _, topic, told, payload in self.rows
        ]


@define
class Dice:
    throws: Iterator[float] = field(factory=lambda: iter(()))

    def __call__(self) -> float:
        return next(self.throws)


def record(house: House, *, dry_run: bool = False, throws: Sequence[float] = ()) -> Kept:
    """Put a recorder into the corridor."""
    kept = Kept(house)
    circumstances = Circumstances("gw-1", lambda: 3, lambda: WALL, Dice(iter(throws)), dry_run)
    house.pipeline.recording = Recording(circumstances, kept, house.pipeline.ruleset)
    house.pipeline.recording._budget = 1000.0
    return kept


async def test_a_message_is_recorded_as_it_came_with_who_sent_it_and_where_it_went(autojump_clock: MockClock) -> None:
    async with open_house(TWO + ON) as house:
        kept = record(house)
        device = await house.connect("d", username="u")
        properties = Properties(content_type="x", user_properties=(("k", "v"),))
        device.publish(Message("t", b"payload", 1, True, properties))
        await house.settle()
        (one,) = kept.found
        assert (one.id, one.at, one.topic, one.payload) == ("gw-1.3.1", WALL, "t", b"payload")
        told = one.told
        assert (told.client_id, told.username, told.listener, told.address) == ("d", "u", "plain", "192.0.2.7")
        assert (told.qos, told.retain, told.properties, told.masked) == (1, True, properties, "no")
        assert (told.action, told.destinations, told.generation, told.failures) == ("forwarded", ("a", "b"), 1, ())
        house.a.settle()
        house.b.settle()


async def test_each_message_has_the_identifier_that_upstreams_get(autojump_clock: MockClock) -> None:
    routes = route("a", topics="s/#") + route("b", topics="m/#", more='ack = "memory"') + route("local", topics="l/#")
    async with open_house(TWO + ON + "messages_per_second = 1000\n" + routes + POLICY, turns=True) as house:
        kept = record(house)
        passports = Passports("gw-1", lambda: house.pipeline.spool.epoch)
        house.pipeline.recording.circumstances = Circumstances(  # type: ignore[union-attr] # `record` has put it there
            "gw-1", lambda: house.pipeline.spool.epoch, lambda: WALL, Dice()
        )
        devices = [await house.connect(f"d{number}") for number in range(3)]
        for start in range(0, 60, 12):
            for number, device in enumerate(devices):
                device.publish(
                    *[
                        Message(f"{'smln'[place % 4]}/{place % 3}", f"{number}.{place}".encode(), place % 3)
                        for place in range(start, start + 12)
                    ]
                )
            await house.settle()
        sent = {
            message.payload: passports.identify(token)[-len(b"gw-1.0.1") - 2 :].rpartition(b"gw-1")[2]
            for destination in (house.a, house.b)
            for message, token in destination.taken
        }
        found = {one.payload: one.id for one in kept.found}
        assert len(found) == 180
        to_upstreams = {payload for payload, name in found.items() if name is not None}
        assert to_upstreams == set(sent)
        for payload, end in sent.items():
            assert f"gw-1{end.decode()}" == found[payload]
        assert len({name for name in found.values() if name is not None}) == len(sent)
        house.a.settle()
        house.b.settle()
        await house.settle()


async def test_what_finds_the_spool_full_has_no_identifier_yet(autojump_clock: MockClock) -> None:
    async with open_house(upstream() + ON + "[spool]\nmax_bytes = 1\n") as house:
        kept = record(house)
        device = await house.connect()
        device.publish(Message("t", b"1", 1))
        await house.settle()
        device.publish(Message("t", b"2", 1), Message("t", b"3", 0))
        await house.settle()
        assert [(one.payload, one.id) for one in kept.found] == [
            (b"1", "gw-1.3.1"), (b"2", None), (b"3", "gw-1.3.2"),
        ]  # fmt: skip
        house.a.settle()
        await house.settle()
        house.a.settle()
        await house.settle()


@pytest.mark.parametrize(
    ("policy", "action", "destinations"),
    [
        ("", "held", ()),
        ('on_failure = ["refuse"]', "refused", ()),
        ('on_failure = ["mark"]', "marked", ("a",)),
        ('level = "observe"', "observed", ("a",)),
    ],
)
async def test_what_fails_is_recorded_with_what_became_of_it(
    policy: str, action: str, destinations: tuple[str, ...], autojump_clock: MockClock
) -> None:
    async with open_house(upstream() + ON + POLICY + policy) as house:
        kept = record(house)
        device = await house.connect()
        device.publish(Message("n/1", b'"x"', 1))
        await house.settle()
        (one,) = kept.found
        assert (one.told.action, one.told.destinations) == (action, destinations)
        assert (one.told.policy, one.told.schema) == ("numbers", "number@1")
        assert one.told.failures == (("", "type", "'x' is not of type \"number\""),)
        assert (one.id is None) is (not destinations)
        assert one.payload == b'"x"'
        house.a.settle()
        house.quarantine.commit()


async def test_a_dry_run_records_that_it_only_observes(autojump_clock: MockClock) -> None:
    async with open_house(upstream() + ON + POLICY, dry_run=True) as house:
        kept = record(house, dry_run=True)
        device = await house.connect()
        device.publish(Message("n/1", b'"x"', 1))
        await house.settle()
        assert [one.told.action for one in kept.found] == ["observed"]
        house.a.settle()


@pytest.mark.parametrize(("unrouted", "action"), [("refuse", "refused"), ("drop", "dropped")])
async def test_what_has_no_route_is_recorded_too(unrouted: str, action: str, autojump_clock: MockClock) -> None:
    text = upstream() + ON + route("a", topics="r/#") + f'[default]\nunrouted = "{unrouted}"\n'
    async with open_house(text) as house:
        kept = record(house)
        device = await house.connect()
        device.publish(Message("elsewhere", b"", 1))
        await house.settle()
        assert [(one.told.action, one.told.destinations) for one in kept.found] == [(action, ())]


async def test_what_transforms_made_of_a_message_is_not_what_is_recorded(autojump_clock: MockClock) -> None:
    change = 'transforms = [{ op = "set_topic", to = "elsewhere" }]\n'
    async with open_house(upstream() + ON + POLICY + change) as house:
        kept = record(house)
        device = await house.connect()
        device.publish(Message("n/1", b"1", 1))
        await house.settle()
        assert house.a.topics == ["elsewhere"]
        assert [(one.topic, one.payload, one.id) for one in kept.found] == [("n/1", b"1", "gw-1.3.1")]
        house.a.settle()


async def test_masks_are_on_before_anything_is_written(autojump_clock: MockClock) -> None:
    files = {"person/1.json": {"type": "object", "properties": {"name": {"type": "number"}}}}
    policy = '[[policies]]\nname = "people"\ntopics = ["p"]\nschema = "person@1"\nlevel = "observe"\n'
    mask = '[[masks]]\ntopics = ["p"]\npaths = ["/name"]\n'
    async with open_house(ON + policy + mask, files=files) as house:
        kept = record(house)
        device = await house.connect()
        device.publish(
            Message("p", b'{"name":"Robert","age":8}', 1), Message("p", b"Robert", 1), Message("q", b"Bob", 1)
        )
        await house.settle()
        assert "Robert" not in repr(kept.rows)
        first, second, third = kept.found
        assert (orjson.loads(first.payload), first.told.masked) == ({"age": 8}, "partly")
        assert [failure[:2] for failure in first.told.failures] == [("/name", "type")]
        assert second.told.masked == "wholly"
        assert (third.payload, third.told.masked) == (b"Bob", "no")


async def test_only_chosen_messages_are_recorded_and_the_others_are_counted_by_reason(
    autojump_clock: MockClock,
) -> None:
    settings = ON + 'topics = ["t/#"]\npercent = 50\nmessages_per_second = 2\n'
    async with open_house(upstream() + settings) as house:
        kept = record(house, throws=[0.6, 0.4, 0.1, 0.2])
        assert house.pipeline.recording is not None
        house.pipeline.recording._budget = 0.0
        autojump_clock.jump(100)
        device = await house.connect()
        device.publish(*[Message(topic, b"", 1) for topic in ("u", "t/1", "t/2", "t/3", "t/4")])
        await house.settle()
        assert [one.topic for one in kept.found] == ["t/2", "t/3"]
        assert kept.left_out == {"topic": 1, "percent": 1, "rate": 1}
        assert [one.id for one in kept.found] == ["gw-1.3.3", "gw-1.3.4"]
        house.a.settle()


async def test_the_rate_is_made_good_as_time_goes_by(autojump_clock: MockClock) -> None:
    async with open_house(upstream() + ON + "messages_per_second = 4\n") as house:
        kept = record(house)
        device = await house.connect()
        autojump_clock.jump(100)
        for seconds, recorded in ((0.0, 4), (0.25, 5), (0.5, 7), (60.0, 11)):
            autojump_clock.jump(seconds)
            device.publish(*[Message("t", b"", 0)] * 6)
            await house.settle()
            assert len(kept.found) == recorded


async def test_a_reload_turns_it_on_and_off(autojump_clock: MockClock) -> None:
    async with open_house(upstream()) as house, open_house(upstream() + ON) as later:
        kept = record(house)
        device = await house.connect()
        for ruleset, recorded in (
            (house.pipeline.ruleset, 0),
            (later.pipeline.ruleset, 1),
            (house.pipeline.ruleset, 1),
        ):
            house.pipeline.use(ruleset, house.lanes)
            device.publish(Message("t", b"", 1))
            await house.settle()
            assert len(kept.found) == recorded
            assert kept.is_enabled is (ruleset is later.pipeline.ruleset)
        house.a.settle()


async def test_a_bug_in_preparing_costs_one_recording_and_is_told(autojump_clock: MockClock) -> None:
    async with open_house(upstream() + ON) as house:
        kept = record(house)

        class Broken:
            def payload(self, payload: bytes, topic: str) -> bytes:
                if payload == b"bad":
                    raise ZeroDivisionError
                return payload

            def verdict(self, verdict: Any, topic: str) -> Any:
                return verdict

        object.__setattr__(house.pipeline.ruleset, "masker", Broken())
        device = await house.connect()
        device.publish(Message("t", b"bad", 1), Message("t", b"good", 1))
        await house.settle()
        assert [one.payload for one in kept.found] == [b"good"]
        assert kept.log.events() == ["recorder_raised"]
        house.a.settle()


async def test_its_numbers_are_told_with_those_of_the_house(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_house(f'[proxy]\ndata_dir = "{tmp_path}"\n' + ON) as house:
        circumstances = Circumstances("gw-1", lambda: 3, lambda: WALL, Dice())
        recording = make_recording(
            house.pipeline.ruleset, house.metrics, circumstances, now=lambda: 0.0, to_thread=in_place
        )
        recording.recorder.recorded, recording.recorder.removed = 5, {"age": 2, "bytes": 0}
        recording.recorder.left_out.add("rate", 3)
        families = {family.name: family for family in MetricsCollector(house.metrics).collect()}

        def values(name: str) -> dict[str, float]:
            return {"".join(sample.labels.values()): sample.value for sample in families[name].samples}

        assert values("mqtt_proxy_recorder_recorded") == {"": 5}
        assert values("mqtt_proxy_recorder_removed") == {"age": 2, "bytes": 0}
        assert values("mqtt_proxy_recorder_left_out") == {"rate": 3}


async def test_how_far_messages_have_drifted_is_told_by_policy_and_each_new_place_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    files = {"s/1.json": {"type": "object", "properties": {"a": {"type": "number"}}}}
    policy = '[[policies]]\nname = "p"\ntopics = ["t"]\nschema = "s@1"\nlevel = "observe"\n'
    mask = '[[masks]]\ntopics = ["t"]\npaths = ["/b"]\n'
    async with open_house(f'[proxy]\ndata_dir = "{tmp_path}"\n' + ON + policy + mask, files=files) as house:
        circumstances = Circumstances("gw-1", lambda: 3, lambda: WALL, Dice())
        house.pipeline.recording = recording = make_recording(
            house.pipeline.ruleset, house.metrics, circumstances, now=lambda: 0.0, to_thread=in_place
        )
        recording._budget = 100.0
        preparing = recording.recorder._prepare
        assert isinstance(preparing, Preparing)
        preparing.alerts.log = log = FakeLog()
        device = await house.connect()
        device.publish(
            *[Message("t", payload, 1) for payload in (b'{"a":1}', b'{"a":1,"b":2}', b'{"a":"x","b":1}', b"5")]
        )
        await house.settle()
        preparing(recording.recorder._notes)
        families = {family.name: family for family in MetricsCollector(house.metrics).collect()}
        told = {
            name: [(sample.labels, sample.value) for sample in families[f"mqtt_proxy_drift_{name}"].samples]
            for name in ("messages", "unknown_ratio", "failed_ratio")
        }
        label = {"policy": "p"}
        assert told == {"messages": [(label, 4)], "unknown_ratio": [(label, 0.5)], "failed_ratio": [(label, 0.5)]}
        assert log.lines == [{"event": "schema_drift", "policy": "p", "place": "/b", "topic": "t"}]


async def test_without_a_json_schema_nothing_looks_for_drift(autojump_clock: MockClock) -> None:
    async with open_house(ON) as house:
        kept = record(house)
        device = await house.connect()
        device.publish(Message("t", b"1", 1))
        await house.settle()
        assert len(kept.found) == 1
        preparing = kept._prepare
        assert isinstance(preparing, Preparing)
        assert preparing.drift is None
