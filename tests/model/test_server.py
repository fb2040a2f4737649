"""The whole server against the reference model: what each client hears, in any conversation of three clients.

Of a failure hypothesis prints the steps, the last of which went wrong; `play` plays them again.
"""

import os
from collections.abc import Sequence
from typing import Any

import trio
from hypothesis import Phase, given, settings, strategies as st
from trio.testing import MockClock

from tests.house import open_house
from tests.model.play import Conversation
from tests.model.steps import FILTERS, SHARED, Step, next_step, told_apart

SETTINGS = "[limits]\nflapping_connects = 0\n"
WITH_GROUPS = (*SHARED, "a/#")
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "100"))
LONGEST = 40
MORE = st.integers(0, 30).map(bool)


async def make_up(conversation: Conversation, data: st.DataObject, filters: Sequence[str]) -> None:
    """Let hypothesis decide what comes next."""
    # Not a number of steps at first: then one of them could not be left out when a failure is made simpler.
    while len(conversation.steps) < LONGEST and data.draw(MORE):
        step = data.draw(next_step(conversation.online, filters))
        await conversation.play(told_apart(step) if filters is WITH_GROUPS else step)
    await conversation.finish()


async def repeat(conversation: Conversation, steps: Sequence[Step]) -> None:
    await conversation.play(*steps)
    await conversation.finish()


async def walk(commits_at_once: bool, converse: Any, *arguments: Any) -> None:
    wrong: AssertionError | None = None
    async with open_house(SETTINGS) as house:
        house.journal.at_once = commits_at_once
        conversation = Conversation(house)
        try:
            await converse(conversation, *arguments)
        except AssertionError as error:
            wrong = error
            wrong.add_note(f"to repeat: play(*{conversation.steps}, {commits_at_once=})")
    if wrong is not None:  # not as one of a group: hypothesis tells failures apart by where they come from
        raise wrong


def run(commits_at_once: bool, converse: Any, *arguments: Any) -> None:
    trio.run(walk, commits_at_once, converse, *arguments, clock=MockClock(autojump_threshold=0))


def play(*steps: Step, commits_at_once: bool = True) -> None:
    run(commits_at_once, repeat, steps)


def thorough(test: Any) -> Any:
    return settings(max_examples=EXAMPLES, phases=set(Phase) - {Phase.explain}, report_multiple_bugs=False)(test)


@thorough
@given(st.data(), st.booleans())
def test_every_client_hears_what_the_model_says(data: st.DataObject, commits_at_once: bool) -> None:
    run(commits_at_once, make_up, data, FILTERS)


@thorough
@given(st.data(), st.booleans())
def test_one_member_of_each_group_hears_what_the_model_says(data: st.DataObject, commits_at_once: bool) -> None:
    run(commits_at_once, make_up, data, WITH_GROUPS)
