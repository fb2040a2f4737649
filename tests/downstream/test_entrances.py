"""Which sockets a reload keeps, which it opens and closes, and who may stay."""

from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from attrs import evolve
from trio.testing import MockClock

from mqttproxy.config.model import Address, Labels, ListenerSettings
from mqttproxy.downstream.device import Device
from mqttproxy.downstream.door import Door
from mqttproxy.downstream.entrances import CannotOpenError, Entrance, in_the_way, lets_stay, pair
from mqttproxy.mqtt.packets import Message
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.transport.dial import dial
from tests.harness import write_certificates
from tests.house import AWAITED, House, make_house, open_house

PLAIN = ListenerSettings(name="plain", bind=Address("127.0.0.1:1883"))
OTHER = ListenerSettings(name="other", bind=Address("127.0.0.1:1884"))
FREE = ListenerSettings(name="free", bind=Address("127.0.0.1:0"))


def entrances(*settings: ListenerSettings) -> list[Entrance]:
    return [Entrance(cast("Any", None), one) for one in settings]


@pytest.mark.parametrize(
    ("there", "wanted", "found"),
    [
        ([PLAIN], [PLAIN], [0]),
        ([PLAIN], [evolve(PLAIN, transport="ws")], [0]),
        ([PLAIN], [evolve(PLAIN, name="renamed")], [0]),
        ([PLAIN], [evolve(PLAIN, bind=OTHER.bind)], [None]),
        ([PLAIN, OTHER], [evolve(PLAIN, bind=OTHER.bind), evolve(OTHER, bind=PLAIN.bind)], [1, 0]),
        ([PLAIN], [OTHER, PLAIN], [None, 0]),
        ([FREE, evolve(FREE, name="f2")], [evolve(FREE, name="f2"), FREE], [1, 0]),
        ([FREE], [evolve(FREE, name="f2")], [None]),
    ],
)
def test_a_socket_is_kept_by_its_address(
    there: list[ListenerSettings], wanted: list[ListenerSettings], found: list[int | None]
) -> None:
    known = entrances(*there)
    assert pair(known, wanted) == [None if place is None else known[place] for place in found]


@pytest.mark.parametrize(
    ("changes", "stay"),
    [
        ({"certificate": Path("/b")}, True),
        ({"private_key": Path("/b")}, True),
        ({"path": "/other"}, True),
        ({"origins": ("https://dashboard.example",)}, False),
        ({"transport": "tls"}, False),
        ({"client_certificate": "required"}, False),
        ({"client_ca": Path("/b")}, False),
        ({"name": "renamed"}, False),
        ({"bind": "0.0.0.0:1883"}, False),
        ({"enabled": False}, False),
    ],
)
def test_who_is_connected_stays_while_what_let_him_in_does(changes: dict[str, Any], stay: bool) -> None:
    assert lets_stay(PLAIN, evolve(PLAIN, **changes)) is stay


def test_who_is_in_the_way_is_told() -> None:
    assert "listener 'plain' has 127.0.0.1:1883" in in_the_way(
        entrances(OTHER, PLAIN), evolve(PLAIN, bind=Address("0.0.0.0:1883"))
    )
    assert in_the_way(entrances(PLAIN), OTHER) == in_the_way(entrances(FREE), FREE) == ""


async def change(house: House, *settings: ListenerSettings, grace: float = 5.0) -> None:
    house.door.use(await house.door.prepare(settings), grace=grace)
    await house.settle()


async def test_devices_of_a_listener_that_goes_have_time_for_what_they_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_house(AWAITED) as house:
        busy, idle = await house.connect("busy"), await house.connect("idle")
        busy.publish(Message("t", b"", 1))
        await house.settle()
        await change(house)
        assert house.listener.closed
        assert idle.goodbye is ReasonCode.ADMINISTRATIVE_ACTION
        assert busy.ended_at is None
        assert house.metrics.listening == {}
        await trio.sleep(1)
        house.a.settle()
        await house.settle()
        assert (busy.settled, busy.goodbye) == ([(1, 0)], ReasonCode.ADMINISTRATIVE_ACTION)
        assert house.door.connected() == {}


async def test_at_the_end_of_the_grace_they_go_anyway(autojump_clock: MockClock) -> None:
    async with open_house(AWAITED) as house:
        busy = await house.connect("busy")
        busy.publish(Message("t", b"", 1))
        await house.settle()
        await change(house, grace=5.0)
        await trio.sleep(6)
        assert busy.ended_at == 5.0
        house.a.settle()


async def test_who_is_shaking_hands_then_comes_in_and_is_sent_away(autojump_clock: MockClock) -> None:
    async with open_house() as house:
        house.listener.patience = 2.0
        late = house.device("late")
        await trio.sleep(1)
        await change(house)
        await trio.sleep(2)
        assert late.connack is not None
        assert late.goodbye is ReasonCode.ADMINISTRATIVE_ACTION


async def test_a_socket_that_is_kept_accepts_on_by_the_new_name_and_attributes(
    nursery: trio.Nursery,
) -> None:
    house = make_house("", nursery)
    door = Door(house.premises)
    first = ListenerSettings(name="a", bind=Address("127.0.0.1:0"))
    await door.open([first])
    nursery.start_soon(door.run)
    await trio.testing.wait_all_tasks_blocked()
    (listener,) = door.listeners
    old = evolve(first, bind=Address(f"127.0.0.1:{listener.port}"))
    door._entrances[0].settings = old
    ways = await door.prepare([evolve(old, name="b", attributes=Labels((("site", "north"),)))])
    assert door.use(ways, grace=0.0).changed == ("b",)
    assert door.listeners == [listener]
    assert house.metrics.listening == {"b": 1}
    stream = await dial(f"mqtt://127.0.0.1:{listener.port}")
    stream.send_nowait(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x")
    assert bytes(await stream.receive()) == b"\x20\x02\x00\x00"
    assert door.connected() == {"b": 1}
    (device,) = house.premises.devices.values()
    assert isinstance(device, Device)
    assert device.identity.attributes == {"site": "north"}
    await stream.aclose()
    nursery.cancel_scope.cancel()


async def test_a_certificate_is_read_again_though_its_name_is_the_same(nursery: trio.Nursery, tmp_path: Path) -> None:
    house = make_house("", nursery)
    door = Door(house.premises)
    files = write_certificates(tmp_path / "tls")
    secure = ListenerSettings(
        name="s",
        bind=Address("127.0.0.1:0"),
        transport="tls",
        certificate=files.certificate,
        private_key=files.private_key,
    )
    await door.open([secure])
    nursery.start_soon(door.run)
    await trio.testing.wait_all_tasks_blocked()
    url = f"mqtts://127.0.0.1:{door.listeners[0].port}"
    before = await dial(url, ca=files.ca)
    files.certificate.unlink()
    files = write_certificates(tmp_path / "tls")
    changes = door.use(await door.prepare([secure]), grace=0.0)
    assert (changes.changed, changes.renewed) == ((), ())
    after = await dial(url, ca=files.ca)
    for stream in (before, after):
        await stream.aclose()
    files.certificate.write_text("no certificate")
    with pytest.raises(CannotOpenError) as raised:
        await door.prepare([secure])
    assert (raised.value.position, raised.value.key) == (0, "certificate")
    nursery.cancel_scope.cancel()


async def test_if_one_of_two_new_ones_cannot_be_opened_the_other_is_closed_again(nursery: trio.Nursery) -> None:
    house = make_house("", nursery)
    door, taken = Door(house.premises), Door(house.premises)
    await taken.open([FREE])
    bad = evolve(OTHER, bind=Address(f"127.0.0.1:{taken.listeners[0].port}"))
    opened = []

    async def listen(settings: ListenerSettings, **how: Any) -> Any:
        opened.append(await taken._listen(settings, **how))
        return opened[-1]

    door._listen = listen
    with pytest.raises(CannotOpenError) as raised:
        await door.prepare([FREE, evolve(PLAIN, enabled=False), bad])
    assert (raised.value.position, raised.value.key) == (2, "bind")
    assert [listener._socket.fileno() for listener in opened] == [-1]
    assert door.listeners == []
    taken._close_listeners()
