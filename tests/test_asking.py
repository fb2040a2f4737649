"""Plug-in checks in real processes, by the real clock: nothing here waits for longer than a process needs to start."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from mqttproxy.asking import Asking
from mqttproxy.plugin.view import ENCODER, Properties, Request, Sender, View
from mqttproxy.telemetry.logs import RateLimited
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.validation import Failure
from mqttproxy.validation.plugins import Answers, Question
from tests.fake_rooms import FakeLog
from tests.plugins import install

SOURCE = """\
import os, time
print("loaded, and this goes to standard error")
def check(view):
    print("asked")
    word = view.payload.decode()
    if word == "hang":
        time.sleep(60)
    if word == "end":
        os._exit(3)
    if word == "raise":
        raise ValueError("no\\x1b such word")
    if word == "long":
        os.write(1, b"x" * 100_000)
    return [("/word", f"{word} is bad")] if word == "bad" else []
"""


def question(word: str, *, plugin: str = "words", seconds: float = 10.0) -> Question:
    view = View(
        topic="t", payload=word.encode(), captures={}, properties=Properties(0, False),
        sender=Sender("d", None, "", "", {}), has_document=False,
    )  # fmt: skip
    return Question(plugin, seconds, ENCODER.encode(Request(seconds, view)))


@asynccontextmanager
async def asking_of(*names: str, queue: int = 10, chance: float = 0.0) -> AsyncIterator[Asking]:
    asking = Asking(Metrics(), RateLimited(log=FakeLog()), queue, lambda: chance)
    asking.have(names)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(asking.run)
            yield asking
            nursery.cancel_scope.cancel()


async def said_of(asking: Asking, *questions: Question) -> list[tuple[Failure, ...]]:
    answers = Answers(missing=dict.fromkeys(questions))
    await asking.ask(answers)
    return [answers.of(one) for one in questions]


@pytest.fixture(autouse=True)
def _plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, words=SOURCE, broken="1/0")


async def test_it_says_what_is_wrong_with_each_message() -> None:
    async with asking_of("words") as asking:
        good, bad, again = await said_of(asking, question("good"), question("bad"), question("long"))
        assert (good, again) == ((), ())
        assert bad == (Failure("/word", "plugin", "bad is bad"),)
        assert asking.metrics.plugin_messages == {"words": 3}
        assert asking.metrics.plugin_starts == {"words": 1}
        assert asking.metrics.plugin_faults == {}


async def test_one_that_raises_fails_the_message_and_lives_on() -> None:
    async with asking_of("words") as asking:
        ((failure,), good) = await said_of(asking, question("raise"), question("good"))
        assert failure == Failure("", "plugin-fault", "plug-in words: ValueError: no\\u001b such word")
        assert good == ()
        assert asking.metrics.plugin_faults == {"raised": 1}
        assert asking.metrics.plugin_starts == {"words": 1}


@pytest.mark.parametrize(
    ("word", "kind", "words"), [("hang", "slow", "took longer than 0.3 s"), ("end", "ended", "its process has ended")]
)
async def test_X32_one_that_hangs_or_ends_fails_the_message_and_is_started_again(
    word: str, kind: str, words: str
) -> None:
    async with asking_of("words") as asking:
        assert await said_of(asking, question("good")) == [()]  # it runs by now
        ((failure,), good) = await said_of(asking, question(word, seconds=0.3), question("good"))
        assert failure.keyword == "plugin-fault"
        assert words in failure.message
        assert good == ()
        assert asking.metrics.plugin_faults == {kind: 1}
        assert asking.metrics.plugin_starts == {"words": 2}


async def test_until_its_backoff_is_over_messages_fail_at_once() -> None:
    async with asking_of("words", chance=1.0) as asking:
        ((_,), (failure,)) = await said_of(asking, question("end"), question("good"))
        assert failure.message == "plug-in words: it does not run: its process has ended"
        assert asking.metrics.plugin_faults == {"ended": 1, "waiting": 1}
        assert asking.metrics.plugin_starts == {"words": 1}


async def test_one_that_cannot_be_loaded_fails_every_message() -> None:
    async with asking_of("broken", chance=1.0) as asking:
        ((failure,),) = await said_of(asking, question("good", plugin="broken"))
        assert "ZeroDivisionError" in failure.message
        assert failure.keyword == "plugin-fault"


async def test_one_that_no_policy_has_any_more_fails_the_message() -> None:
    async with asking_of() as asking:
        ((failure,),) = await said_of(asking, question("good"))
        assert failure.message == "plug-in words: no policy in force has it"
        assert asking.metrics.plugin_faults == {"unknown": 1}


async def test_a_reload_starts_it_anew_and_answers_what_was_queued() -> None:
    async with asking_of("words", queue=1) as asking:
        answers = Answers(missing=dict.fromkeys(question("good" * count) for count in range(1, 20)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asking.ask, answers)
            await trio.testing.wait_all_tasks_blocked(0.01)
            asking.have(["words"])
        assert set(answers.known.values()) == {()}
        assert len(answers.known) == 19
        assert asking.metrics.plugin_starts == {"words": 2}


async def test_who_gives_up_waiting_does_not_disturb_the_others() -> None:
    async with asking_of("words") as asking:
        assert await said_of(asking, question("good")) == [()]
        with trio.move_on_after(0.1):
            await said_of(asking, question("hang", seconds=0.5), question("bad"))
        assert await said_of(asking, question("good")) == [()]
        assert asking.metrics.plugin_messages == {"words": 3}  # nobody waited for "bad" any more


async def test_no_process_outlives_it() -> None:
    async with asking_of("words") as asking:
        assert await said_of(asking, question("good")) == [()]
        process = asking._plugins["words"]._process
        assert process is not None
    assert process._process.returncode is not None
