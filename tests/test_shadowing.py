"""Candidates judged beside policies: what is counted, what is left out, and that nobody feels them."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Message, Publish
from mqttproxy.ruleset import Ruleset
from mqttproxy.shadowing import SLICE
from mqttproxy.upstream.callbacks import Arrival
from mqttproxy.upstream.routing import RouteTable
from mqttproxy.validation import build_generation
from mqttproxy.validation.policy import Policy, Shadow
from mqttproxy.validation.transforms import make_masker
from tests.config.documents import parse
from tests.fake_rooms import Shelf
from tests.house import WALL, House, open_house, upstream

FILES: dict[str, Any] = {
    "t/1.json": {"type": "object", "required": ["c"]},
    "t/2.json": {"type": "object", "required": ["celsius"], "properties": {"celsius": {"maximum": 50}}},
}
ATTRIBUTES = '[[access.attributes]]\npattern = "{model}-{firmware}-+"\n'
POLICY = '[[policies]]\nname = "temperature"\ntopics = ["t/{device}"]\nschema = "t@1"\n'
CANDIDATE = '[policies.shadow]\nschema = "t@2"\n'
UP = upstream()
OLD, NEW, BOTH, NONE = b'{"c": 1}', b'{"celsius": 1}', b'{"c": 1, "celsius": 1}', b"{}"


def start(house: House) -> None:
    house.nursery.start_soon(house.pipeline.shadowing.run)


def told(house: House, policy: str = "temperature") -> dict[str, Any]:
    (document,) = house.pipeline.shadowing.as_document(policy)
    return document


def cells(house: House, policy: str = "temperature") -> tuple[int, ...]:
    document = told(house, policy)
    return tuple(document[cell] for cell in ("both_pass", "would_break", "would_heal", "both_fail"))


def use(house: House, text: str, files: dict[str, Any] = FILES) -> None:
    """Put another configuration in force, as a reload does."""
    config = parse(text)
    generation = build_generation(2, config, Shelf(files))
    ruleset = Ruleset(config, generation, RouteTable(config), {}, make_masker(config))
    house.pipeline.use(ruleset, house.lanes)


async def send(house: House, *payloads: bytes, client_id: str = "tx-2.1-7", topic: str = "t/7") -> None:
    device = await house.connect(client_id)
    device.publish(*(Message(topic, payload, 1) for payload in payloads))
    await house.settle()


async def end(house: House) -> None:
    """Let everybody have what he waits for, so that the books balance."""
    house.quarantine.commit()
    await house.settle()
    house.a.settle()


class TestTable:
    async def test_each_message_falls_into_its_cell_and_gets_the_verdict_of_the_policy(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house(UP + ATTRIBUTES + POLICY + CANDIDATE, files=FILES) as house:
            start(house)
            await send(house, BOTH, BOTH, OLD, NEW, NONE)
            assert cells(house) == (2, 1, 1, 1)
            assert house.a.topics == ["t/7"] * 3
            assert len(house.quarantine.waiting) == 2
            assert {held.policy for held, _ in house.quarantine.waiting} == {"temperature"}
            await end(house)

    async def test_what_a_device_may_not_send_does_not_count(self, autojump_clock: MockClock) -> None:
        rules = "".join(
            f'[[access.rules]]\naction = "{action}"\ntopics = ["{topic}"]\n'
            for action, topic in (("deny", "t/8"), ("allow", "#"))
        )
        async with open_house(UP + ATTRIBUTES + POLICY + CANDIDATE + rules, files=FILES) as house:
            start(house)
            await send(house, OLD)
            await send(house, OLD, client_id="tx-2.1-8", topic="t/8")
            assert cells(house) == (0, 1, 0, 0)
            await end(house)

    async def test_it_tells_pointer_device_and_firmware_of_what_would_break(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + ATTRIBUTES + POLICY + CANDIDATE, files=FILES) as house:
            start(house)
            await send(house, b'{"c": 1, "celsius": 51}')
            await send(house, BOTH, client_id="tx-1.4-8")
            document = told(house)
            assert (document["candidate"], document["since"]) == ("schema t@2", WALL)
            by = {
                axis: {row["key"]: row["would_break"] for row in table["rows"]}
                for axis, table in document["by"].items()
            }
            assert by == {
                "policy": {"temperature": 1},
                "pointer": {"/celsius": 1},
                "device": {"tx-2.1-7": 1},
                "attribute": {"model = tx": 1, "firmware = 2.1": 1, "firmware = 1.4": 0},
            }
            (sample,) = document["samples"]["would_break"]
            assert (sample["device"], sample["payload"]) == ("tx-2.1-7", '{"c": 1, "celsius": 51}')
            assert sample["failures"] == [
                {"pointer": "/celsius", "keyword": "maximum", "message": "51 is greater than the maximum of 50"}
            ]
            await end(house)

    async def test_a_policy_of_the_file_can_be_the_candidate_where_it_would_apply(
        self, autojump_clock: MockClock
    ) -> None:
        other = (
            '[policies.shadow]\npolicy = "later"\n[[policies]]\nname = "later"\ntopics = ["t/+"]\nlevel = "off"\n'
            'format = "json"\n[policies.when]\nattributes = { firmware = ">=2" }\n[policies.require]\nmax_bytes = 5\n'
        )
        async with open_house(UP + ATTRIBUTES + POLICY + other, files=FILES) as house:
            start(house)
            await send(house, OLD, NONE)
            await send(house, OLD, NONE, client_id="tx-1.4-8")  # for which the candidate has no say
            assert cells(house) == (1, 1, 2, 0)
            assert told(house)["candidate"] == "policy later"
            assert [row["key"] for row in told(house)["by"]["policy"]["rows"]] == ["later", "temperature"]
            await end(house)

    async def test_what_brokers_send_is_judged_by_candidates_of_its_direction(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + POLICY + 'direction = "down"\n' + CANDIDATE, files=FILES) as house:
            start(house)
            await send(house, OLD)  # goes up, where the policy does not judge
            arrival = Arrival(Publish("t/7", OLD))
            house.pipeline.carry_down("a", [arrival], lambda refused=None: None)
            await house.settle()
            assert cells(house) == (0, 1, 0, 0)
            assert told(house)["by"]["device"]["rows"][0]["key"] == "upstream:a"
            house.a.settle()

    async def test_whom_the_policy_is_not_for_and_where_nobody_may_publish_is_not_counted(
        self, autojump_clock: MockClock
    ) -> None:
        when = '[policies.when]\nattributes = { firmware = ">=2" }\n'
        allowed = '[topics]\nallowed = ["t/7"]\n'
        async with open_house(UP + allowed + ATTRIBUTES + POLICY + CANDIDATE + when, files=FILES) as house:
            start(house)
            await send(house, OLD, client_id="tx-1.4-8")
            await send(house, OLD, topic="t/8")
            assert told(house)["messages"] == 0
            await end(house)

    async def test_masked_values_are_not_kept(self, autojump_clock: MockClock) -> None:
        mask = '[[masks]]\ntopics = ["t/#"]\npaths = ["/celsius"]\nhow = "drop"\n'
        async with open_house(UP + POLICY + CANDIDATE + mask, files=FILES) as house:
            start(house)
            await send(house, b'{"c": 1, "celsius": 51}')
            assert "51" not in str(told(house))
            assert told(house)["samples"]["would_break"][0]["failures"][0]["pointer"] == "/celsius"
            house.a.settle()


class TestBounds:
    async def test_a_share_is_judged_and_the_rest_is_counted(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + POLICY + CANDIDATE + "percent = 25", files=FILES) as house:
            start(house)
            draws = iter([0.1, 0.24, 0.25, 0.9])
            house.pipeline.shadowing.chance = lambda: next(draws)
            await send(house, *[OLD] * 4)
            assert told(house)["messages"] == 2
            assert told(house)["not_judged"] == {"left_out": 2, "dropped": 0, "raised": 0}
            house.a.settle()

    async def test_each_candidate_has_its_share_of_one_draw(self, autojump_clock: MockClock) -> None:
        second = POLICY.replace('"temperature"', '"second"') + CANDIDATE + "percent = 50\n"
        async with open_house(UP + POLICY + CANDIDATE + "percent = 10\n" + second, files=FILES) as house:
            start(house)
            draws = iter([0.05, 0.3, 0.7])
            house.pipeline.shadowing.chance = lambda: next(draws)
            await send(house, *[OLD] * 3)
            assert [told(house, name)["messages"] for name in ("temperature", "second")] == [1, 2]
            assert [told(house, name)["not_judged"]["left_out"] for name in ("temperature", "second")] == [2, 1]
            house.a.settle()

    @pytest.mark.parametrize("bound", ["queue_messages = 2", "queue_bytes = 16"])
    async def test_what_the_queue_has_no_room_for_is_counted_and_carried(
        self, bound: str, autojump_clock: MockClock
    ) -> None:
        async with open_house(UP + POLICY + CANDIDATE + f"[shadow]\n{bound}\n", files=FILES) as house:
            await send(house, *[OLD] * 5)  # nothing judges yet
            assert house.a.topics == ["t/7"] * 5
            start(house)
            await house.settle()
            assert told(house)["messages"] == 2
            assert told(house)["not_judged"]["dropped"] == 3
            house.a.settle()

    async def test_it_rests_after_each_slice_so_that_its_share_holds(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + POLICY + CANDIDATE + "[shadow]\ntime_percent = 10\n", files=FILES) as house:
            await send(house, *[OLD] * 3)
            ticks = iter(range(100))
            house.metrics.now = lambda: next(ticks) * SLICE / 2  # each look at the clock, half a slice has gone by
            start(house)
            await house.settle()
            assert told(house)["messages"] == 1
            await trio.sleep(SLICE * 1.5 * 9 - SLICE)  # it has worked for one and a half of them
            assert told(house)["messages"] == 1
            await trio.sleep(SLICE * 2)
            assert told(house)["messages"] == 2
            house.a.settle()

    async def test_rows_and_samples_are_bounded(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + POLICY + CANDIDATE + "[shadow]\nrows = 2\nsamples = 1\n", files=FILES) as house:
            start(house)
            for number in range(4):
                await send(house, OLD, client_id=f"d{number}")
            devices = told(house)["by"]["device"]
            assert (len(devices["rows"]), devices["other"]["would_break"]) == (2, 2)
            assert [sample["device"] for sample in told(house)["samples"]["would_break"]] == ["d3"]
            house.a.settle()

    async def test_a_candidate_that_raises_is_counted_and_told_and_nobody_suffers(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_house(UP + POLICY + CANDIDATE, files=FILES) as house:
            start(house)
            monkeypatch.setattr(Shadow, "judge", lambda *_: 1 / 0)
            await send(house, OLD, OLD)
            assert told(house)["not_judged"]["raised"] == 2
            assert house.log.events().count("shadow_raised") == 1  # the log has a limit for each
            assert house.a.topics == ["t/7"] * 2
            house.a.settle()


class TestReload:
    async def test_a_table_stays_while_the_policy_and_its_candidate_do(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + POLICY + CANDIDATE, files=FILES) as house:
            start(house)
            await send(house, OLD)
            more = '[[policies]]\nname = "another"\ntopics = ["#"]\nformat = "raw"\n'
            use(house, UP + POLICY + 'level = "observe"\n' + CANDIDATE + more)
            assert cells(house) == (0, 1, 0, 0)
            house.a.settle()

    @pytest.mark.parametrize(
        ("text", "files"),
        [
            (POLICY + CANDIDATE + "percent = 50\n", FILES),
            (POLICY + '[policies.when]\nclient_id = ["tx*"]\n' + CANDIDATE, FILES),
            (POLICY + CANDIDATE, FILES | {"t/2.json": {"type": "object"}}),  # a draft that was changed
            (POLICY + CANDIDATE + '[[masks]]\ntopics = ["t/#"]\npaths = ["/c"]\nhow = "drop"\n', FILES),
        ],
    )
    async def test_a_new_table_begins_when_what_it_compares_or_shows_is_another(
        self, text: str, files: dict[str, Any], autojump_clock: MockClock
    ) -> None:
        async with open_house(UP + POLICY + CANDIDATE, files=FILES) as house:
            start(house)
            await send(house, OLD)
            use(house, UP + text, files)
            assert told(house)["messages"] == 0
            house.a.settle()

    @pytest.mark.parametrize("text", [POLICY, POLICY + 'level = "off"\n' + CANDIDATE])
    async def test_without_a_candidate_or_a_policy_that_judges_nothing_is_handed_over(
        self, text: str, autojump_clock: MockClock
    ) -> None:
        async with open_house(UP + POLICY + CANDIDATE, files=FILES) as house:
            use(house, UP + text)
            assert not house.pipeline.shadowing.has_candidates
            assert house.pipeline.shadowing.as_document() == []
            await send(house, OLD)
            assert not house.pipeline.shadowing._queue
            house.a.settle()

    async def test_what_waits_is_judged_by_the_rules_under_which_it_came(self, autojump_clock: MockClock) -> None:
        async with open_house(UP + POLICY + CANDIDATE, files=FILES) as house:
            await send(house, OLD)
            use(house, UP + POLICY)
            start(house)
            await house.settle()
            assert not house.pipeline.shadowing._queue
            house.a.settle()


async def test_metrics_tell_every_outcome_by_policy(autojump_clock: MockClock) -> None:
    async with open_house(UP + POLICY + CANDIDATE, files=FILES) as house:
        start(house)
        await send(house, BOTH, OLD)
        for refresh in house.metrics.refresh:
            refresh()
        told_of = {outcome: count for (_, outcome), count in house.metrics.shadowed.items()}
        assert told_of == {
            "both_pass": 1, "would_break": 1, "would_heal": 0, "both_fail": 0, "left_out": 0, "dropped": 0, "raised": 0,
        }  # fmt: skip
        assert house.metrics.shadow_waiting == 0
        house.a.settle()


async def test_the_policy_in_force_is_asked_as_if_it_were_enforced(autojump_clock: MockClock) -> None:
    async with open_house(UP + POLICY + 'level = "observe"\n' + CANDIDATE, files=FILES) as house:
        start(house)
        await send(house, NEW, NONE)
        assert cells(house) == (0, 0, 1, 1)
        assert house.metrics.observed == 2
        house.a.settle()


async def test_a_policy_behind_a_final_one_is_not_compared(autojump_clock: MockClock) -> None:
    final = '[[policies]]\nname = "first"\npriority = 1\nfinal = true\ntopics = ["t/+"]\nformat = "raw"\n'
    async with open_house(UP + POLICY + CANDIDATE + final, files=FILES) as house:
        start(house)
        await send(house, OLD)
        assert told(house)["messages"] == 0
        house.a.settle()


def test_a_policy_has_the_candidate_that_its_settings_name() -> None:
    config = parse(POLICY + 'format = "json"\n' + CANDIDATE)
    (policy,) = build_generation(1, config, Shelf(FILES)).policies
    assert isinstance(policy, Policy)
    assert policy.shadow is not None
    assert (policy.passed.schema, policy.shadow.candidate.passed.schema) == ("t@1", "t@2")
    assert policy.shadow.candidate.name == "temperature"
