import trio
from trio.testing import MockClock

from mqttproxy.mqtt.packets import Properties
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.mqtt.server import ServerLimits
from mqttproxy.upstream.probe import ProbeResult, probe
from tests.upstream.broker import FakeBroker, settings


async def probed(broker: FakeBroker) -> ProbeResult:
    return await probe(settings(), "gw", broker.dial)


async def test_a_broker_that_accepts_us_is_told_with_its_limits(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    broker = FakeBroker(nursery)
    broker.limits = ServerLimits(receive_maximum=20, packet_size=1000)
    broker.extra = Properties(maximum_qos=1, retain_available=0)
    result = await probed(broker)
    assert result.ok
    assert result.words == (
        "accepted in 0 ms, MQTT 5; at most 20 in flight; packets up to 1000 bytes; QoS up to 1; nothing retained"
    )


async def test_a_running_proxy_is_not_disturbed_and_nothing_stays_behind(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    broker = FakeBroker(nursery)
    await probed(broker)
    await trio.sleep(1)
    assert [(connect.client_id, connect.clean_start) for connect in broker.connects] == [("gw-a-probe", True)]
    assert broker.sessions == {}
    assert len(broker.ends) == 1


async def test_every_failure_is_told_in_words(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    broker = FakeBroker(nursery)
    broker.refuse_with = ReasonCode.NOT_AUTHORIZED
    assert await probed(broker) == ProbeResult(
        ok=False, words="the broker refused the connection: not authorized (0x87)"
    )
    broker.unreachable = "mqtt://broker:1883: connection refused"
    assert await probed(broker) == ProbeResult(ok=False, words="mqtt://broker:1883: connection refused")
    broker.hangs = True
    began = trio.current_time()
    assert (await probed(broker)).words == "the broker did not answer in time"
    assert trio.current_time() - began == 10
