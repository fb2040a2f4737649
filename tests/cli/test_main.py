"""The command as a person meets it: help, exit codes, words instead of tracebacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mqttproxy import __version__
from mqttproxy.cli import file_to_run, main
from mqttproxy.cli.commands import app
from tests.waiting import PATIENCE

COMMAND = [sys.executable, "-m", "mqttproxy"]


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        app(list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], "bogus"),
        (["--bogus"], "--bogus"),
        (["run"], "FILE"),
        (["run", "a.toml", "b.toml"], "b.toml"),
        (["run", "a.toml", "--bogus"], "--bogus"),
        (["run", "a.toml", "--dry-run=perhaps"], "perhaps"),
        (["check"], "FILE"),
        (["check", "a.toml", "--probes"], "--probes"),
    ],
)
def test_wrong_use_exits_with_two_and_says_what_is_wrong(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(*arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert words in err


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["--help"], ["run", "--help"], ["check", "--help"], ["quarantine", "--help"], ["status", "--help"]),
        *(["explain", "--help"], ["test", "--help"]),
    ],
)
def test_help_is_shown_and_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    app(arguments, result_action="return_value")
    assert "Usage: mqttproxy" in capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    app(["--help"], result_action="return_value")
    out = capsys.readouterr().out
    assert all(command in out for command in ("run", "check", "explain", "test", "quarantine", "status"))


def test_a_faulty_file_exits_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("check", str(tmp_path / "gone.toml")) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'gone.toml'}: found no such file, expected a readable file\n"


def test_a_good_file_exits_with_zero(tmp_path: Path) -> None:
    (tmp_path / "proxy.toml").write_text("")
    assert code_of("check", str(tmp_path / "proxy.toml")) == 0


def test_the_version_is_told() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout == f"{__version__}\n"


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_file_that_cannot_be_read_is_told_in_words(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, command, str(tmp_path)], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "found a folder, expected a readable file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen([*COMMAND, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        ("run a.toml", "a.toml"),
        ("run --dry-run a.toml", "a.toml"),
        ("run a.toml --dry-run", "a.toml"),
        ("run", None),
        ("run --help", None),
        ("run --dry-run", None),
        ("run --dry-run --help", None),
        ("run -- a.toml", None),
        ("run a.toml b.toml", None),
        ("run a.toml --dry-run=true", None),
        ("check a.toml", None),
        ("", None),
    ],
)
def test_plain_forms_of_run_are_known_without_a_reader_of_command_lines(arguments: str, file: str | None) -> None:
    assert file_to_run(arguments.split()) == file


@pytest.mark.parametrize("arguments", ["run a.toml", "run --dry-run a.toml", "run a.toml --dry-run"])
def test_plain_forms_of_run_mean_what_the_reader_of_command_lines_would_make_of_them(
    arguments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, bool]] = []

    def run(file: Path, /, *, dry_run: bool = False) -> int:
        seen.append((file, dry_run))
        return 7

    monkeypatch.setattr("mqttproxy.cli.run.run", run)
    monkeypatch.setattr("sys.argv", ["mqttproxy", *arguments.split()])
    with pytest.raises(SystemExit, match="7"):
        main()
    assert seen == [(Path("a.toml"), "--dry-run" in arguments)]
    command, bound, _ = app.parse_args(arguments)
    assert command.__name__ == "run"
    assert seen == [(*bound.args, bound.kwargs.get("dry_run", False))]


def modules_after(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE)
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_help_loads_nothing_that_only_a_command_needs() -> None:
    statement = "from mqttproxy.cli.commands import app\napp(['--help'], result_action='return_value')"
    assert not modules_after(statement) & {"trio", "cattrs", "jsonschema", "structlog", "sqlite_utils"}


def test_run_does_not_load_what_is_for_terminals() -> None:
    statement = (
        "import mqttproxy.cli.run as m\nfrom mqttproxy.cli.commands import app\n"
        "async def run_proxy(path, dry_run): return 0\nm.run_proxy = run_proxy\n"
        "app(['run', 'proxy.toml'], result_action='return_value')"
    )
    assert "rich" not in modules_after(statement)
