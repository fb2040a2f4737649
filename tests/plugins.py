"""Plug-in checks for tests: installed for real into a folder, or answered by a test itself."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import trio

from mqttproxy.asking import Asking
from mqttproxy.pipeline import Pipeline
from mqttproxy.plugin.view import REQUESTS, View
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.validation import Failure
from mqttproxy.validation.plugins import Answers


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, **sources: str) -> None:
    """Install each source as a plug-in of its name: it defines `check(view)`."""
    points = "".join(f"{name} = plugged_{name}:check\n" for name in sources)
    information = folder / "plugged-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[mqttproxy.checks]\n{points}")
    for name, source in sources.items():
        (folder / f"plugged_{name}.py").write_text(source)
    monkeypatch.syspath_prepend(folder)


def pretend(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let there be plug-ins by these names."""
    monkeypatch.setattr("mqttproxy.validation.plugins.installed", lambda: names)


class FakeAsking(Asking):
    """Needs no processes: a function of the test says what is wrong, when the test lets it."""

    def __init__(self, pipeline: Pipeline, check: Callable[[View], Iterable[tuple[str, str]]]) -> None:
        super().__init__(Metrics(), pipeline.refusal.alerts, 1)
        self.check = check
        self.may_answer = trio.Event()
        self.asked: list[View] = []
        pipeline.asking = self
        self.use(pipeline.ruleset)

    async def ask(self, answers: Answers) -> None:
        questions = answers.take_missing()
        views = [REQUESTS.decode(question.request).view for question in questions]
        self.asked += views
        await self.may_answer.wait()
        for question, view in zip(questions, views, strict=True):
            answers.known[question] = tuple(Failure(pointer, "plugin", text) for pointer, text in self.check(view))
