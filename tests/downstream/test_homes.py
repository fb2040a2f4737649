from trio.testing import MockClock

from mqttproxy.config.model import UpstreamSettings
from mqttproxy.downstream.homes import Homes
from mqttproxy.mqtt.packets import RetainHandling, Subscription
from tests.fake_rooms import FakeUpstream
from tests.house import open_house, upstream

T = Subscription("t", 1)


class Asker:
    client_id = "d"


D = Asker()


class Fleet:
    """Upstreams, and a change of routes that makes others of them home."""

    def __init__(self) -> None:
        self.upstreams = {name: self.make(name) for name in "ab"}
        self.names = {"a", "local"}
        self.homes = Homes(self.upstreams, lambda _: set(self.names))

    def make(self, name: str) -> FakeUpstream:
        return FakeUpstream(UpstreamSettings(name=name, url=f"mqtt://{name}"))

    def wanted(self) -> dict[str, int]:
        return {name: upstream.wanted["t"] for name, upstream in self.upstreams.items()}

    async def renew(self) -> None:
        await self.homes.renew([D], lambda _: [T])


async def test_after_a_start_nothing_retained_is_asked_for() -> None:
    fleet = Fleet()
    await fleet.renew()
    assert fleet.upstreams["a"].asked == [("t", None)]


async def test_another_home_is_asked_and_the_former_one_left() -> None:
    fleet = Fleet()
    fleet.homes.ask("d", T)
    assert fleet.wanted() == {"a": 1, "b": 0}
    fleet.names = {"b"}
    await fleet.renew()
    assert fleet.wanted() == {"a": 0, "b": 1}
    assert fleet.upstreams["b"].asked == [("t", D)]
    fleet.names = {"local"}
    await fleet.renew()
    assert fleet.wanted() == {"a": 0, "b": 0}
    assert fleet.homes._asked == {}


async def test_an_upstream_that_was_removed_and_came_back_is_asked_like_a_new_one() -> None:
    fleet = Fleet()
    fleet.homes.ask("d", T)
    fleet.upstreams["a"] = fleet.make("a")
    await fleet.renew()
    assert fleet.wanted() == {"a": 1, "b": 0}


async def test_what_is_as_it_was_is_not_asked_again() -> None:
    fleet = Fleet()
    fleet.homes.ask("d", T)
    await fleet.renew()
    assert fleet.upstreams["a"].asked == [("t", None)]


def test_each_session_and_filter_has_a_reference_of_its_own() -> None:
    fleet = Fleet()
    for client_id in ("d", "e"):
        for _ in range(2):
            fleet.homes.ask(client_id, T)
    assert fleet.wanted()["a"] == 2
    fleet.homes.leave("d", "t")
    fleet.homes.leave("d", "t")
    assert fleet.wanted()["a"] == 1
    fleet.homes.leave_all("e")
    fleet.homes.leave_all("e")
    assert fleet.wanted()["a"] == 0


async def test_what_an_upstream_has_retained_is_for_the_session_that_asked_as_it_asked(
    autojump_clock: MockClock,
) -> None:
    async with open_house(upstream()) as house:
        device = await house.connect()
        session = house.session()
        device.subscribe(
            Subscription("send", 1),
            Subscription("new", 1, retain_handling=RetainHandling.SEND_IF_NEW),
            Subscription("none", 1, retain_handling=RetainHandling.DO_NOT_SEND),
            Subscription("$share/g/t", 1),
        )
        await house.settle()
        assert house.a.asked == [("send", session), ("new", session), ("none", None), ("$share/g/t", None)]
        house.a.asked.clear()
        device.subscribe(Subscription("send", 1), Subscription("new", 1, retain_handling=RetainHandling.SEND_IF_NEW))
        await house.settle()
        assert house.a.asked == [("send", session), ("new", None)]
