"""Plug-in checks for commands: what is computed without waiting is computed again once they have answered."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from mqttproxy.validation.plugins import Answers

T = TypeVar("T")


class Asks(Protocol):
    """What the computation looks for answers in."""

    @property
    def answers(self) -> Answers:
        """Those that are there, and those that are missing."""


def answered(asks: Asks, compute: Callable[[], T]) -> T:
    """Return what is computed when every plug-in has said what it was asked.

    Args:
        asks: holds the answers.
        compute: looks for them there.

    """
    result = compute()
    while asks.answers.missing:
        _ask(asks.answers)
        result = compute()
    return result


def _ask(answers: Answers) -> None:
    import trio  # noqa: PLC0415 - most commands ask nobody

    from mqttproxy.asking import Asking  # noqa: PLC0415 - see above
    from mqttproxy.telemetry.logs import RateLimited, configure_logging, get_log  # noqa: PLC0415 - see above
    from mqttproxy.telemetry.metrics import Metrics  # noqa: PLC0415 - see above

    configure_logging("error", "auto")  # each message says itself what is wrong with a plug-in

    async def ask() -> None:
        asking = Asking(Metrics(), RateLimited(log=get_log()), queue=len(answers.missing))
        asking.have(question.plugin for question in answers.missing)
        async with trio.open_nursery() as nursery:
            await nursery.start(asking.run)
            await asking.ask(answers)
            nursery.cancel_scope.cancel()

    trio.run(ask)
