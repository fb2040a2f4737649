"""Releases by the real proxy on real files. Killed by the system: tests/scenarios/test_releases.py."""

from pathlib import Path
from shutil import copytree
from typing import Literal

import pytest

from mqttproxy import release as room
from mqttproxy.mqtt.packets import Properties
from mqttproxy.quarantine.filters import Filters
from mqttproxy.quarantine.model import Held
from mqttproxy.quarantine.releases import Options
from tests.plant import CONFIG, Axe, Plant, held_ids
from tests.quarantine.examples import NOW, make_held

SELECTIVE = CONFIG.replace('schema = "number@1"', 'schema = "number@1"\nwhen = { attributes = { firmware = "2" } }')
ROOM_FOR_TWO = f'{CONFIG}\n[spool]\nmax_bytes = "2B"\n'


def good(topic: str = "n/1", **changes: object) -> Held:
    return make_held(**{"topic": topic, "payload": b"1", "policy": "numbers", **changes})


def bad(topic: str = "n/1", **changes: object) -> Held:
    return make_held(**{"topic": topic, "payload": b'"x"', "policy": "numbers", **changes})


async def test_what_is_released_goes_where_its_route_leads_with_its_time_and_its_identity(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.subscribe("s", "n/#")
    one, other = good(payload=b"1"), good(payload=b"2", properties=Properties(user_properties=(("k", "v"),)))
    plant.hold(one, other)
    plant.order()
    await plant.run_until_over()
    for upstream in "ab":
        first, second = plant.spooled(upstream)
        assert (first.topic, first.payload, first.qos) == ("n/1", b"1", 1)
        at = "2027-01-15T08:00:00.000+00:00"
        assert first.properties.user_properties == (("mp-held-id", one.id), ("mp-held-at", at))
        assert second.properties.user_properties == (("k", "v"), ("mp-held-id", other.id), ("mp-held-at", at))
    assert [payload for _, payload, _ in plant.queued()] == [b"1", b"2"]
    release = plant.release()
    assert (release.state, release.total, release.released, release.failed) == ("done", 2, 2, 0)
    assert release.ended_at == NOW + 60
    for record in plant.records().values():
        assert (record.state, record.release, record.released_at) == ("released", 1, NOW + 60)
    assert plant.table("SELECT * FROM releases") == []


async def test_what_fails_again_stays_held_for_its_new_reasons(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    wrong = bad(policy="former", failures=(("/old", "required", ""),))
    plant.hold(wrong, good())
    plant.order()
    await plant.run_until_over()
    release = plant.release()
    assert (release.state, release.released, release.failed) == ("done", 1, 1)
    record = plant.records()[wrong.id]
    assert (record.state, record.release, record.policy, record.schema) == ("held", 1, "numbers", "number@1")
    ((pointer, keyword, _),) = record.failures
    assert (pointer, keyword) == ("", "type")
    assert len(plant.spooled("a")) == 1


async def test_no_message_is_released_twice_by_a_second_order(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.hold(good(), good())
    plant.order()
    plant.order()
    await plant.run_until_over(number=2)
    assert plant.release(2).released == 0
    assert len(plant.spooled("a")) == 2


async def test_filters_choose_and_what_is_held_later_is_not_part_of_it(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    wanted = good("n/yes/1")
    plant.hold(wanted, good("n/no"))
    plant.order(filters=Filters(topic="n/yes/+"))
    plant.hold(good("n/yes/2"))
    await plant.run_until_over()
    assert held_ids(plant.spooled("a")) == [wanted.id]


async def test_it_can_go_to_some_destinations_only(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.subscribe("s", "n/#")
    plant.hold(good())
    plant.order(destinations=("b",))
    await plant.run_until_over()
    assert plant.spooled("a") == []
    assert len(plant.spooled("b")) == 1
    assert plant.queued() == []


async def test_what_an_upstream_refused_goes_to_that_one_alone(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.subscribe("s", "n/#")
    plant.hold(good(destination="b", policy=None), gone := good(destination="c", policy=None))
    plant.order()
    await plant.run_until_over()
    assert plant.spooled("a") == []
    assert len(plant.spooled("b")) == 1
    assert plant.queued() == []
    assert plant.records()[gone.id].failures == (("", "topic", "its route does not lead to c"),)


async def test_routes_that_promise_nothing_and_topics_at_home_work_too(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.subscribe("s", "here/#")
    plant.hold(memory := good("only/a/1", qos=0), here := good("here/1", qos=0, retain=True), good("nowhere"))
    plant.order()
    await plant.run_until_over()
    assert held_ids(plant.spooled("a")) == [memory.id]
    assert held_ids(plant.queued()) == [here.id]
    assert [row[0] for row in plant.table("SELECT topic FROM retained")] == ["here/1"]
    assert plant.release().failed == 1


async def test_what_an_upstream_sent_goes_to_subscribers_alone(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.subscribe("s", "n/#")
    plant.hold(down := good(client_id="", username=None, address="a", listener="upstream:a"))
    plant.order()
    await plant.run_until_over()
    assert held_ids(plant.queued()) == [down.id]
    assert plant.spooled("b") == []


async def test_a_message_whose_time_is_over_stays_unless_that_is_ignored(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    over = good(properties=Properties(message_expiry_interval=59))
    plant.hold(over, good(properties=Properties(message_expiry_interval=61)))
    plant.order()
    await plant.run_until_over()
    (alive,) = plant.spooled("a")
    assert alive.expires_at == pytest.approx(NOW + 61, abs=1)
    assert plant.records()[over.id].failures[0][1] == "expired"
    plant.order(options=Options(ignore_expiry=True))
    await plant.run_until_over(number=2)
    assert plant.spooled("a")[1].expires_at is None


async def test_retained_messages_can_be_released_as_plain_ones(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.hold(good(retain=True))
    plant.order(options=Options(clear_retain=True))
    await plant.run_until_over()
    assert [message.retain for message in plant.spooled("a")] == [False]
    assert plant.table("SELECT topic FROM retained") == []


async def test_it_stops_when_too_many_fail_again(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.hold(*(bad() for _ in range(10)))
    plant.order(failure_ratio=0.1)
    await plant.run_until_over()
    release = plant.release()
    assert (release.state, release.failed) == ("stopped", 3)  # of at least 20
    assert release.words == "3 of 3 failed again, more than the failure ratio of 0.1 allows"
    assert {record.state for record in plant.records().values()} == {"held"}


@pytest.mark.parametrize(("ratio", "failed"), [(0.0, 1), (1.0, 10)])
async def test_the_failure_ratio_may_be_nothing_or_all(tmp_path: Path, ratio: float, failed: int) -> None:
    plant = Plant(tmp_path)
    plant.hold(*(bad() for _ in range(10)))
    plant.order(failure_ratio=ratio)
    await plant.run_until_over()
    assert plant.release().failed == failed


async def test_a_release_that_is_cancelled_ends_between_two_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "BATCH", 2)
    plant = Plant(tmp_path)
    plant.hold(*(good() for _ in range(100)))
    number = plant.order(rate=100)
    async with plant.running():
        await plant.until(lambda: plant.release().released)
        assert plant.cancel(number)
        await plant.until(lambda: not plant.proxy.releases.running)
    release = plant.release()
    assert release.state == "cancelled"
    assert 0 < release.released < 100
    assert len(plant.spooled("a")) == release.released
    assert not plant.cancel(number)


async def test_with_a_full_spool_it_waits_for_room(tmp_path: Path) -> None:
    plant = Plant(tmp_path, ROOM_FOR_TWO)
    plant.hold(*(good() for _ in range(5)))
    plant.order()
    async with plant.running() as proxy:
        await plant.until(lambda: plant.release().released == 2)
        await plant.until(lambda: proxy.keeping.spool._room)
        assert plant.release().state == "running"
        assert sorted(record.state for record in plant.records().values()) == ["held"] * 3 + ["released"] * 2
        proxy.keeping.spool.settings = Plant(tmp_path).config.spool
        proxy.keeping.spool.room_was_made()
        await plant.until(lambda: plant.release().state == "done")
    assert len(plant.spooled("a")) == 5


async def test_a_message_without_its_payload_stays(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.hold(lost := good(payload=b"1" * 100_000))
    for file in (plant.quarantine / "payloads").iterdir():
        file.unlink()
    plant.order()
    await plant.run_until_over()
    assert "cannot be read" in plant.records()[lost.id].failures[0][2]


async def test_a_faulty_recipe_stops_it(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.hold(good())
    plant.order(recipe="nonsense")
    await plant.run_until_over()
    assert plant.release().state == "stopped"
    assert "recipe" in plant.release().words


async def test_a_recipe_mends_before_the_rules_judge(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.hold(bad(payload=b'"21.5"'), hopeless := bad(payload=b'"x"'))
    plant.order(recipe='[[steps]]\nop = "cast"\npath = ""\ntype = "number"\n')
    await plant.run_until_over()
    assert [message.payload for message in plant.spooled("a")] == [b"21.5"]
    assert plant.records()[hopeless.id].failures[0][1] == "transform"


async def test_what_was_masked_when_it_was_stored_is_never_released(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.hold(masked := good(is_masked=True))
    plant.order()
    await plant.run_until_over()
    assert plant.records()[masked.id].failures[0][1] == "masked"
    assert plant.spooled("a") == []


async def test_selectors_see_the_attributes_that_the_sender_had(tmp_path: Path) -> None:
    plant = Plant(tmp_path, SELECTIVE)
    plant.hold(old := bad(attributes={"firmware": "1"}), new := bad(attributes={"firmware": "2"}))
    plant.order()
    await plant.run_until_over()
    states = {record.id: record.state for record in plant.records().values()}
    assert states == {old.id: "released", new.id: "held"}


def everything() -> list[Held]:
    return [
        good("n/1", qos=0),
        good("n/2", qos=1, retain=True),
        bad("n/3"),
        good("n/4", qos=2),
        good("here/5"),
        good("n/6", client_id="", username=None, address="a", listener="upstream:a"),
        good("n/7", destination="b"),
    ]


@pytest.mark.parametrize("side", ["before", "after"])
async def test_killed_at_any_call_to_the_disk_each_message_is_released_once(
    tmp_path: Path, side: Literal["before", "after"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "BATCH", 3)
    begin = Plant(tmp_path / "0")
    begin.subscribe("s", "#")
    held = everything()
    begin.hold(*held)
    begin.order()
    for at in range(1, 100):
        copytree(tmp_path / "0", tmp_path / str(at))
        plant = Plant(tmp_path / str(at))
        axe = Axe(at, side)
        await plant.run_until_over(axe)
        if axe.is_dead:
            await plant.run_until_over()
        one, two, wrong, four, here, down, at_b = (message.id for message in held)
        assert held_ids(plant.spooled("a")) == [one, two, four], at
        assert held_ids(plant.spooled("b")) == [one, two, four, at_b], at
        assert held_ids(plant.queued()) == [one, two, four, here, down], at
        release = plant.release()
        assert (release.state, release.released, release.failed) == ("done", 6, 1), at
        states = {record.id: record.state for record in plant.records().values()}
        assert states == {message.id: "held" if message.id == wrong else "released" for message in held}, at
        if not axe.is_dead:
            break
    assert at > 8
