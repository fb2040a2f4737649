"""The tutorial as it is told: every command of `docs/tutorial.md` is run in order, and shows what stands there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

import pytest
from attrs import define, field, frozen

from mqttproxy.cli.cases import try_cases
from tests.forking import fork
from tests.harness import RunningProxy, start_proxy
from tests.ports import free_port
from tests.waiting import PATIENCE, wait_until

TOP: Final = Path(__file__).parents[2]
EXAMPLE: Final = TOP / "examples/rollout"
TUTORIAL: Final = TOP / "docs/tutorial.md"

# What these answer settles a moment after what they are asked about: they are asked until they say what stands there.
ASKED_AGAIN: Final = (
    "mqttproxy shadow",
    "mqttproxy quarantine issues",
    "mqttproxy quarantine releases",
    "python fleet.py show",
)
# What else than 0 they exit with, and why.
EXIT_CODES: Final = {"diff": 1, "mqttproxy plan": 3, "mqttproxy plan 4-everyone.toml": 4}

# What differs from run to run.
_VOLATILE: Final = (
    re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"),  # times
    re.compile(r"\b01[0-9A-HJKMNP-TV-Z]{24}\b"),  # identifiers of messages
)
_ANY_LINES: Final = "..."


@frozen
class Step:
    """A command, and what it shows on the page."""

    command: str
    shown: str

    def is_shown_by(self, output: str) -> bool:
        return re.fullmatch("".join(self._pattern()), _trimmed(output)) is not None

    def _pattern(self) -> Iterator[str]:
        for line in self.shown.splitlines():
            if line.strip() == _ANY_LINES:
                yield r"(?:[^\n]*\n)*"
                continue
            text = re.escape(line.rstrip())
            for volatile in _VOLATILE:
                for found in volatile.findall(line):
                    text = text.replace(re.escape(found), volatile.pattern)
            yield f"{text}\n"


def _trimmed(output: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in output.splitlines())


def steps() -> Iterator[Step]:
    for block in re.findall(r"```console\n(.*?)```", TUTORIAL.read_text(), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            while command.endswith("\\"):
                more, _, shown = shown.partition("\n")
                command = command.removesuffix("\\") + more.strip()
            yield Step(command, shown)


@define
class Reader:
    """Does what the tutorial says, in a folder of its own."""

    folder: Path
    proxy: RunningProxy | None = field(default=None)

    def do(self, step: Step) -> None:
        program, *arguments = shlex.split(step.command)
        if program == "cd":
            self.folder /= arguments[0]
            use_own_ports(self.folder)
        elif step.command.startswith("mqttproxy run"):
            self.proxy = start_proxy(self.folder / arguments[1])
            assert self.proxy.ready
        elif step.command.startswith(ASKED_AGAIN):
            wait_until(lambda: step.is_shown_by(self.output_of(step.command)), self.output_of(step.command))
        else:
            output = self.output_of(step.command)
            assert step.is_shown_by(output), f"$ {step.command}\n{output}"

    def output_of(self, command: str) -> str:
        words = shlex.split(command)
        expected = max((key for key in EXIT_CODES if command.startswith(key)), key=len, default="")
        if words[0] == "mqttproxy":
            with TemporaryFile() as output:
                code = fork(words[1:], output, self.folder).wait(PATIENCE)
                output.seek(0)
                said = output.read().decode()
            assert code == EXIT_CODES.get(expected, 0), f"$ {command}\n{said}"
            return said
        done = subprocess.run(
            [sys.executable if words[0] == "python" else words[0], *words[1:]],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(TOP)},  # the package is found whether it is installed or not
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == EXIT_CODES.get(expected, 0), f"$ {command}\n{done.stdout}"
        return done.stdout


def use_own_ports(folder: Path) -> None:
    port = free_port()
    for file in folder.glob("*.toml"):
        text = file.read_text().replace("127.0.0.1:1883", f"127.0.0.1:{port}")
        text = text.replace('metrics_bind = "127.0.0.1:9100"', 'metrics_bind = "127.0.0.1:0"\nlog_format = "json"')
        file.write_text(text)


def test_the_tutorial_goes_as_it_is_told(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "examples/rollout", ignore=shutil.ignore_patterns("data", "__pycache__"))
    reader = Reader(tmp_path)
    try:
        for step in steps():
            reader.do(step)
        assert reader.proxy is not None
        reader.proxy.check_unharmed()
        assert reader.proxy.stop() == 0, reader.proxy.tail()
    finally:
        if reader.proxy is not None and reader.proxy.process.poll() is None:
            reader.proxy.kill()


@pytest.mark.parametrize("file", sorted(EXAMPLE.glob("[p234]*.toml")), ids=lambda file: file.name)
def test_the_cases_of_each_step_pass_and_exercise_every_rule(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert try_cases(file) == 0
    assert capsys.readouterr().out.endswith("all of each exercised\n")


def test_the_tutorial_shows_all_kinds_of_files_of_the_example() -> None:
    page = TUTORIAL.read_text()
    for file in EXAMPLE.glob("*.*"):
        assert file.name in page, file


def test_a_step_that_shows_something_else_is_noticed() -> None:
    step = Step("x", "held 01M7XWTB6FX0EWX5W91YPN2HBQ at 2026-11-20 08:15:00\n...\nthe end (1)\n")
    assert step.is_shown_by("held 01M7XWTB6FX0EWX5W91YPN2HBR at 2026-11-20 08:15:59  \na\nb\nthe end (1)\n")
    assert step.is_shown_by("held 01M7XWTB6FX0EWX5W91YPN2HBR at 2026-11-20 08:15:59\nthe end (1)\n")
    assert not step.is_shown_by("held 01M7XWTB6FX0EWX5W91YPN2HBR at 2026-11-20 08:15:59\nthe end (2)\n")
    assert not step.is_shown_by("held something at 2026-11-20 08:15:59\nthe end (1)\n")
    assert not step.is_shown_by("")
