"""Made-up conversations of two clients, held with the proxy alone and with Mosquitto: both must say the same.

Some are the same in every run, some are new. Of a failure, the assertion tells the steps.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from typing import Self

import pytest
from attrs import define, field, frozen
from hypothesis import Phase, given, settings, strategies as st

from tests.differential.rules import APART, DIFFERENCES, Difference, level, narrowed, page
from tests.differential.sides import Side
from tests.differential.written import PAGE
from tests.harness import running_proxy, write_settings
from tests.model.steps import KINDS, Step, Wait, finale, next_step
from tests.scenarios.mosquitto import running_brokers

SETTINGS = "[limits]\nflapping_connects = 0\n"
MOSQUITTO = "queue_qos0_messages false\n"
EXAMPLES = int(os.environ.get("DIFFERENTIAL_EXAMPLES", "20"))
LONGEST = 30
MORE = st.integers(0, 25).map(bool)
CLIENTS = ("x", "y")
TIMELESS = [kind for kind in KINDS if kind is not Wait]

_numbers = count(1)


@frozen
class Ports:
    proxy: int
    mosquitto: int


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    folder = tmp_path_factory.mktemp("differential")
    with (
        running_brokers(folder, "mosquitto", more=MOSQUITTO) as [broker],
        running_proxy(write_settings(folder, SETTINGS)) as proxy,
    ):
        yield Ports(proxy.port(), broker.port)


@define(eq=False)
class Conversation:
    """One conversation with both. Its topics and clients are its own."""

    ours: Side
    theirs: Side
    steps: list[Step] = field(factory=list)

    @classmethod
    def at(cls, ports: Ports) -> Self:
        prefix = f"c{next(_numbers)}/"
        return cls(Side("mqttproxy", ports.proxy, prefix), Side("Mosquitto", ports.mosquitto, prefix))

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()

    def play(self, *steps: Step) -> None:
        for step in steps:
            self.steps.append(step)
            number = len(self.steps)
            ours, theirs = self.ours.play(step, number), self.theirs.play(step, number)
            assert level(ours) == level(theirs), f"the proxy (left) and Mosquitto, in the last of {self.steps}"


def make_up(ports: Ports, data: st.DataObject) -> None:
    with closing(Conversation.at(ports)) as conversation:
        ours = conversation.ours
        while len(conversation.steps) < LONGEST and data.draw(MORE):
            step = data.draw(next_step(ours.online, APART, TIMELESS))
            client = getattr(step, "client", "")
            if client in CLIENTS:
                conversation.play(*narrowed(step, ours.last.get(client), is_online=client in ours.online))
        conversation.play(*finale(ours.last))


THOROUGH = settings(max_examples=EXAMPLES, phases=set(Phase) - {Phase.explain}, report_multiple_bugs=False)


@settings(THOROUGH, derandomize=True, database=None)
@given(st.data())
def test_conversations_go_as_with_mosquitto(ports: Ports, data: st.DataObject) -> None:
    make_up(ports, data)


@THOROUGH
@given(st.data())
def test_new_conversations_go_as_with_mosquitto(ports: Ports, data: st.DataObject) -> None:
    make_up(ports, data)


@pytest.mark.parametrize("known", DIFFERENCES, ids=lambda known: known.title)
def test_each_known_difference_is_there(ports: Ports, known: Difference) -> None:
    with closing(Conversation.at(ports)) as conversation:
        ours = [conversation.ours.play(step, number) for number, step in enumerate(known.shown)]
        theirs = [conversation.theirs.play(step, number) for number, step in enumerate(known.shown)]
        assert ours != theirs


def test_the_page_tells_every_difference() -> None:
    assert PAGE.read_text() == page(), "python -m tests.differential.written"
