"""Conversations with both servers at once, made up by hypothesis."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Final, Self

from attrs import define, evolve, field, frozen
from hypothesis import strategies as st

from tests.differential.bent import Bent, Together, Turn, Verdict, bent, together
from tests.differential.rules import APART, HANDED_ON, SECOND_CONNECT, explained, level, narrowed
from tests.differential.sides import Heard, Side
from tests.harness import running_proxy, write_settings
from tests.model.steps import KINDS, Connect, Step, Wait, finale, next_step
from tests.scenarios.mosquitto import running_brokers

SETTINGS: Final = "[limits]\nflapping_connects = 0\n"
MOSQUITTO: Final = "queue_qos0_messages false\n"
LONGEST: Final = 30  # steps
CLIENTS: Final = ("x", "y")

_more = st.integers(0, 25).map(bool)
_timeless = [kind for kind in KINDS if kind is not Wait]
_ways = st.sampled_from(("step", "step", "step", "step", "bent", "together"))
_numbers = count(1)


@frozen
class Ports:
    """Where the two are."""

    proxy: int
    mosquitto: int


@contextmanager
def running_both(folder: Path) -> Iterator[Ports]:
    """Start both and stop them at the end."""
    with (
        running_brokers(folder, "mosquitto", more=MOSQUITTO) as [broker],
        running_proxy(write_settings(folder, SETTINGS)) as proxy,
    ):
        yield Ports(proxy.port(), broker.port)


class UnexplainedError(AssertionError):
    """The two differ, in words, in the last of some steps."""

    def __init__(self, words: str, steps: list[Turn]) -> None:
        super().__init__(f"{words}\nin the last of {steps}")
        self.words = f"{words}\nin {steps[-1]}"


@define(eq=False)
class Conversation:
    """One conversation with both. Its topics and clients are its own.

    Attributes:
        known: how often which known difference was there.
        is_over: one of them was such that the two are no longer in the same state.

    """

    ours: Side
    theirs: Side
    steps: list[Turn] = field(factory=list)
    known: Counter[str] = field(factory=Counter)
    is_over: bool = False
    _bent: set[str] = field(factory=set)  # clients of whose sessions nobody knows what is in them

    @classmethod
    def at(cls, ports: Ports) -> Self:
        """Begin one."""
        prefix = f"c{next(_numbers)}/"
        return cls(Side("mqttproxy", ports.proxy, prefix), Side("Mosquitto", ports.mosquitto, prefix))

    def close(self) -> None:
        """End it."""
        self.ours.close()
        self.theirs.close()

    def play(self, *steps: Turn) -> None:
        """Take some steps, and hold after each that both have said the same."""
        for step in map(self._ready, steps):
            if self.is_over:
                return
            self.steps.append(step)
            number = len(self.steps)
            ours, our_titles = level(self.ours.play(step, number))
            theirs, their_titles = level(self.theirs.play(step, number))
            self.known.update(our_titles | their_titles)
            verdict = self.ours.verdict
            lost = self._lost(step, verdict)
            if lost:
                self.known[lost] += 1
                self.is_over = True
                ours, theirs = (_answers_of(side) for side in (ours, theirs))
            if ours != theirs:
                why = explained(verdict, ours, theirs)
                if not why:
                    differ = [
                        client for client in ours.keys() | theirs.keys() if ours.get(client) != theirs.get(client)
                    ]
                    sides = [{client: side.get(client) for client in differ} for side in (ours, theirs)]
                    raise UnexplainedError(f"the proxy {sides[0]}\nand Mosquitto {sides[1]}, {verdict}", self.steps)
                self.known[why] += 1
                self.is_over = True

    def _lost(self, step: Turn, verdict: Verdict | None) -> str:
        """Return why a message of one of the two may be missing, at once or later, because of a bent packet."""
        if verdict is None:
            return ""
        if verdict.has_qos2:
            return HANDED_ON
        senders = [one.client for one in _parts(step) if isinstance(one, Bent)]
        has_will = any(name in self.ours.last and self.ours.last[name].will for name in senders)
        return SECOND_CONNECT if verdict.is_second_connect and has_will else ""

    def _ready(self, step: Turn) -> Turn:
        """Let a client begin anew whose session has heard bent packets."""
        self._bent |= {one.client for one in _parts(step) if isinstance(one, Bent)}
        if isinstance(step, Connect) and step.client in self._bent:
            self._bent.remove(step.client)
            return evolve(step, clean=True)
        return step


def _parts(step: Turn) -> tuple[Turn, ...]:
    """Return what is done in a step, at the same time."""
    return step.steps if isinstance(step, Together) else (step,)


def _answers_of(heard: dict[str, Heard]) -> dict[str, Heard]:
    """Return what was heard without messages."""
    return {client: Heard(one.answers) for client, one in heard.items()}


def make_up(ports: Ports, data: st.DataObject) -> Conversation:
    """Make up a conversation, hold it, and return it."""
    with closing(Conversation.at(ports)) as conversation:
        while not conversation.is_over and len(conversation.steps) < LONGEST and data.draw(_more):
            conversation.play(*_next(conversation, data))
        conversation.play(*finale(conversation.ours.last))
    return conversation


def _next(conversation: Conversation, data: st.DataObject) -> list[Turn]:
    ours = conversation.ours
    online = tuple(ours.online)
    way = data.draw(_ways) if online else "step"
    if way == "bent":
        return [data.draw(bent(online))]
    if way == "together":
        return [data.draw(together(online))]
    step: Step = data.draw(next_step(online, APART, _timeless))
    client = getattr(step, "client", "")
    if client not in CLIENTS:
        return []
    return [*narrowed(step, ours.last.get(client), is_online=client in online)]
