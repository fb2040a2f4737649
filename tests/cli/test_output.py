import pytest

from mqttproxy.cli.output import complain, say, tell
from mqttproxy.config.errors import ConfigError, Fault


def test_results_go_to_stdout_and_complaints_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("done")
    complain("not done")
    assert capsys.readouterr() == ("done\n", "not done\n")


def test_a_file_name_that_is_no_text_is_written_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    say("\udcff.toml")
    assert capsys.readouterr().out == "\\udcff.toml\n"


def test_each_fault_is_a_line_and_the_exit_code_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(ConfigError([Fault("f", "a", "x"), Fault("f", "b", "y")])) == 1
    assert capsys.readouterr() == ("", "f: a: found x\nf: b: found y\n")
