"""Recorded messages for tests."""

from typing import Any

from mqttproxy.recorder.model import Recorded, Row, Told, row_of

NOW = 1_700_000_000.0


def make(number: int = 1, *, at: float = NOW, topic: str = "t", payload: bytes = b"1", **told: Any) -> Recorded:
    facts = {"client_id": "d", "action": "forwarded", **told}
    return Recorded(id=f"gw.1.{number}", at=at, topic=topic, payload=payload, told=Told(**facts))


def rows(*recorded: Recorded) -> list[Row]:
    return [row_of(one) for one in recorded]
