"""Made-up conversations of two clients, held with the proxy alone and with Mosquitto: both must say the same.

Some are the same in every run, some are new. Of a failure, the assertion tells the steps.
"""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import Phase, given, settings, strategies as st

from tests.differential.rules import DIFFERENCES, Difference, page
from tests.differential.talking import Conversation, Ports, make_up, running_both
from tests.differential.written import PAGE

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


def test_the_page_tells_every_difference() -> None:
    assert PAGE.read_text() == page(), "python -m tests.differential.written"
