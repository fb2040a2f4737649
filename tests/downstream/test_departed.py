"""Wills, from the device's end to the pipeline; their delays and pace: tests/sessions/test_wills.py."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from mqttproxy.downstream.departed import LATE_BATCHES, pending_will
from mqttproxy.groups import Backlog
from mqttproxy.handover import Origin
from mqttproxy.mqtt.packets import Message, Properties, Publish, Will
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.sessions.records import WillRow
from mqttproxy.sessions.tables import TABLES
from mqttproxy.sessions.wills import PendingWill
from mqttproxy.validation import Identity
from tests.house import AWAITED, DIRECT, POLICY, open_house, upstream

IDENTITY = Identity("d", None, "192.0.2.1", "plain")
LATER = Will("will", b"gone", 1, False, Properties(will_delay_interval=60, message_expiry_interval=500))
AT_ONCE = Will("will", b"gone", 1)


class TestDelay:
    async def test_it_is_published_after_its_delay_without_it(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            witness = await house.connect("witness")
            witness.subscribe("will")
            device = await house.keep(will=LATER)
            device.cut()
            await trio.sleep(59)
            assert witness.received == []
            await trio.sleep(2)
            (publish,) = witness.of(Publish)
            assert publish.properties.will_delay_interval is None
            assert publish.properties.message_expiry_interval == 500  # it counts from the publishing
            assert house.premises.wills.pending == 0

    async def test_who_comes_back_in_time_has_none(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            witness = await house.connect("witness")
            witness.subscribe("will")
            device = await house.keep(will=LATER)
            device.cut()
            await trio.sleep(50)
            await house.keep()
            await trio.sleep(100)
            assert witness.received == []

    async def test_the_end_of_the_session_does_not_let_it_wait(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            witness = await house.connect("witness")
            witness.subscribe("will")
            device = await house.keep(will=LATER, properties=Properties(session_expiry_interval=10))
            device.cut()
            await trio.sleep(11)
            assert witness.received == [("will", b"gone")]

    async def test_a_clean_start_ends_the_session_and_so_the_waiting(self, autojump_clock: MockClock) -> None:
        async with open_house() as house:
            witness = await house.connect("witness")
            witness.subscribe("will")
            device = await house.keep(will=LATER)
            device.cut()
            await trio.sleep(5)
            await house.connect(clean_start=True)
            assert witness.received == [("will", b"gone")]

    @pytest.mark.parametrize(("will", "published"), [(LATER, 0), (AT_ONCE, 1)])
    async def test_a_takeover_cancels_one_that_waits_and_no_other(
        self, will: Will, published: int, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            witness = await house.connect("witness")
            witness.subscribe("will")
            await house.keep(will=will)
            await house.keep()
            await trio.sleep(100)
            assert len(witness.received) == published


@pytest.mark.parametrize(
    ("reason", "published"),
    [(ReasonCode.SUCCESS, 0), (ReasonCode.DISCONNECT_WITH_WILL, 1), (ReasonCode.UNSPECIFIED_ERROR, 1)],
)
async def test_only_a_plain_disconnect_takes_it_back(
    reason: ReasonCode, published: int, autojump_clock: MockClock
) -> None:
    async with open_house() as house:
        witness = await house.connect("witness")
        witness.subscribe("will")
        device = await house.connect(will=AT_ONCE)
        device.disconnect(reason)
        await house.settle()
        assert len(witness.received) == published


class TestAfterARestart:
    RESTORED = PendingWill("d", None, "192.0.2.1", "plain", AT_ONCE, number=1)  # its connection was on when we went

    @pytest.mark.parametrize("comes_back", [True, False])
    async def test_a_device_that_had_no_session_and_is_back_in_time_has_none(
        self, comes_back: bool, autojump_clock: MockClock
    ) -> None:
        async with open_house() as house:
            witness = await house.connect("witness")
            witness.subscribe("will")
            house.premises.wills.restore([self.RESTORED])
            if comes_back:
                await house.connect("d")
            await trio.sleep(1000)
            assert len(witness.received) == (0 if comes_back else 1)


class TestPublisher:
    async def test_a_will_is_settled_once_its_destinations_have_it(self, autojump_clock: MockClock) -> None:
        async with open_house(AWAITED) as house:
            device = await house.connect(will=AT_ONCE)
            device.cut()
            await house.settle()
            assert house.a.topics == ["will"]
            assert house.premises.wills.pending == 1
            house.a.settle()
            assert house.premises.wills.pending == 0

    async def test_one_at_qos_0_is_settled_at_once(self, autojump_clock: MockClock) -> None:
        async with open_house(upstream()) as house:
            device = await house.connect(will=Will("will", b"gone"))
            device.cut()
            await house.settle()
            assert house.a.topics == ["will"]
            assert house.premises.wills.pending == 0
            house.a.settle()

    async def test_one_that_we_cannot_publish_is_given_up_and_others_are_not(
        self, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
    ) -> None:
        async with open_house(upstream()) as house:
            carry_up = house.pipeline.carry_up

            def stumble(origin: Origin, publishes: Sequence[Message], now: float) -> Backlog | None:
                if origin.identity.client_id == "bad":
                    raise ZeroDivisionError
                return carry_up(origin, publishes, now)  # type: ignore[arg-type] # they are Publish

            monkeypatch.setattr(house.pipeline, "carry_up", stumble)
            for name in ("bad", "good"):
                (await house.connect(name, will=Will(name, b"gone"))).cut()
            await house.settle()
            assert house.a.topics == ["good"]
            assert house.premises.wills.pending == 0
            house.a.settle()

    async def test_beyond_the_most_that_may_wait_for_a_place_they_are_given_up_and_counted(
        self, autojump_clock: MockClock
    ) -> None:
        async with open_house(DIRECT) as house:
            house.a.bound = 0
            publisher = house.premises.publisher
            publisher.fire([pending_will(IDENTITY, AT_ONCE, 0.0)] * (LATE_BATCHES + 5))
            await house.settle()
            assert publisher.late == LATE_BATCHES
            assert house.a.dropped == {"connection_lost": 5}
            house.a.make_room(LATE_BATCHES)
            await house.settle()
            assert publisher.late == 0
            house.a.settle()


async def test_a_will_is_judged_by_what_was_known_of_its_device(autojump_clock: MockClock) -> None:
    """Its attributes come from CONNECT, so they are kept with it."""
    identity = Identity("d", None, "192.0.2.1", "plain", {"firmware": "2.1"})
    row = WillRow(1, "d", None, "192.0.2.1", "plain", "n/1", b"x", 1, False, 0.0, None, attributes=identity.attributes)
    table = TABLES[WillRow]
    assert table.read(table.write(row)) == row
    settings = POLICY + '[policies.when]\nattributes = { firmware = ">=2" }\n'
    async with open_house(settings) as house:
        house.premises.publisher.fire([pending_will(identity, Will("n/1", b"bad", 1), 0.0)])
        house.premises.publisher.fire([pending_will(IDENTITY, Will("n/1", b"bad", 1), 0.0)])
        await house.settle()
        assert house.metrics.waiting == 1
        house.quarantine.commit()
