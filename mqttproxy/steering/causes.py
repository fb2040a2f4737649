"""What made a change, what is on trial, and the process as whoever steers it sees it."""

from typing import Any, Protocol

from attrs import define, frozen

from mqttproxy.reload import Built, Running
from mqttproxy.steering.trial import Trial
from mqttproxy.telemetry.health import Health


@frozen
class Cause:
    """What made a change, and who, as far as that can be known."""

    by: str  # start, signal, watch, command, timer
    who: str = ""


@define
class OnTrial:
    """A configuration on trial in this process. `before`: what to go back to; None: what the file holds."""

    trial: Trial
    deadline: float  # on trio's clock
    before: Built | None = None
    going_back: str = ""  # why a roll-back has not worked yet


class Answers(Protocol):
    """What answers some of the commands (`steering.Banning`)."""

    async def answer(self, asked: dict[str, Any], cause: Cause) -> dict[str, Any]:
        """Do what a command asks, and return what came of it."""


class Steered(Running, Protocol):
    """The process as its steering sees it (`app.Proxy`)."""

    ends_soon: bool
    health: Health

    @property
    def banning(self) -> Answers:
        """What answers commands on bans."""
