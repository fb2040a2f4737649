"""Made-up conversations of two clients, held with the proxy alone and with Mosquitto: both must say the same.

Some are the same in every run, some are new. Of a failure, the assertion tells the steps.
"""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import Phase, given, settings, strategies as st

from tests.differential.bent import Bent, Together, Turn
from tests.differential.rules import DIFFERENCES, SECOND_CONNECT, Difference, page
from tests.differential.talking import Conversation, Ports, make_up, running_both
from tests.differential.written import PAGE
from tests.model.steps import Connect, LastWill, Subscribe, Wanted

EXAMPLES = int(os.environ.get("DIFFERENTIAL_EXAMPLES", "20"))


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    with running_both(tmp_path_factory.mktemp("differential")) as both:
        yield both


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


def test_a_will_that_mosquitto_forgets_after_a_second_connect_is_known(ports: Ports) -> None:
    will = LastWill("a", 1, retain=True)
    last = (Connect("x", clean=True), Subscribe("x", (Wanted("a", 1),)))
    for second in (Bent("x", b"\x10\x00"), Together((Bent("x", b"\x1f\x00"),))):
        steps: tuple[Turn, ...] = (Connect("x", will=will), second, *last)
        with closing(Conversation.at(ports)) as conversation:
            heard = [
                [side.play(step, 1) for step in steps][-1]["x"] for side in (conversation.ours, conversation.theirs)
            ]
            assert [len(one.messages) for one in heard] == [1, 0]
        with closing(Conversation.at(ports)) as conversation:
            conversation.play(*steps)
            assert conversation.known[SECOND_CONNECT] == 1


def test_the_page_tells_every_difference() -> None:
    assert PAGE.read_text() == page(), "python -m tests.differential.written"
