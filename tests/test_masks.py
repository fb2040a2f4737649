"""Masks at work: what audit trail, logs and quarantine say of a message, and what they keep of it."""

from base64 import b64decode
from typing import Any

import orjson
from trio.testing import MockClock

from mqttproxy.mqtt.events import Settled
from mqttproxy.mqtt.packets import Message
from tests.house import House, open_house

FILES: dict[str, Any] = {
    "person/1.json": {
        "type": "object",
        "properties": {"name": {"type": "number"}, "age": {"type": "number"}},
    }
}
POLICY = """
[[policies]]
name = "people"
topics = ["p/#"]
schema = "person@1"
on_failure = ["hold", "alert"]
"""
MASKS = """
[[masks]]
topics = ["p/masked"]
paths = ["/name"]
"""
BAD = b'{"name":"Robert","age":"eighty"}'


async def publish(house: House, topic: str) -> dict[str, Any]:
    """Publish a bad message and return its line of the audit trail."""
    house.audit._with_payload = True
    device = await house.connect()
    device.publish(Message(topic, BAD, 1))
    await house.settle()
    house.quarantine.commit()
    await house.settle()
    (settled,) = device.of(Settled)
    assert "Robert" in settled.properties.reason_string  # the device may know what it has sent
    (line,) = house.audit_lines()
    return line


async def test_the_audit_trail_does_not_show_what_is_masked(autojump_clock: MockClock) -> None:
    async with open_house(POLICY + MASKS, files=FILES) as house:
        line = await publish(house, "p/masked")
        assert b64decode(line["payload"]) == b'{"age":"eighty"}'
        assert line["size"] == len(BAD)
        told = {failure["pointer"]: failure["message"] for failure in line["failures"]}
        assert told["/name"] == "told of a masked value"
        assert "eighty" in told["/age"]
        assert "Robert" not in repr(house.audit_lines())


async def test_nor_does_the_log(autojump_clock: MockClock) -> None:
    async with open_house(POLICY + MASKS, files=FILES) as house:
        await publish(house, "p/masked")
        (line,) = house.log.lines
        assert line["event"] == "policy_alert"
        assert "Robert" not in repr(line)


async def test_the_quarantine_keeps_what_came_unless_told_otherwise(autojump_clock: MockClock) -> None:
    async with open_house(POLICY + MASKS, files=FILES) as house:
        await publish(house, "p/masked")
        (held,) = house.quarantine.kept
        assert held.payload == BAD
        assert "Robert" in repr(held.failures)


async def test_the_quarantine_keeps_masked_payloads_when_it_is_told_to(autojump_clock: MockClock) -> None:
    async with open_house(POLICY + MASKS + "[masking]\nstored = true\n", files=FILES) as house:
        await publish(house, "p/masked")
        (held,) = house.quarantine.kept
        assert orjson.loads(held.payload) == {"age": "eighty"}
        assert "Robert" not in repr(held)


async def test_other_topics_are_shown_as_they_are(autojump_clock: MockClock) -> None:
    async with open_house(POLICY + MASKS, files=FILES) as house:
        line = await publish(house, "p/shown")
        assert b64decode(line["payload"]) == BAD
        assert "Robert" in repr(line["failures"])
