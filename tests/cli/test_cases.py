import json
from pathlib import Path

import pytest

from mqttproxy.cli.cases import try_cases
from mqttproxy.cli.check import check
from tests.plugins import install

CONFIG = '[[policies]]\nname = "readings"\ntopics = ["t"]\nformat = "json"\n'
CASE = (
    '[[cases]]\nname = "{name}"\n[cases.given]\ntopic = "t"\ntext = "{text}"\n[cases.expect]\nverdict = "{verdict}"\n'
)
GOOD = CASE.format(name="a good one", text="1", verdict="forward")
BAD = CASE.format(name="a bad one", text="x", verdict="hold")
WRONG = CASE.format(name="a wrong one", text="x", verdict="forward")
NOT_JSON = "hold (policy readings: not JSON: unexpected character, expected a JSON value: line 1 column 1 (char 0))"


def configuration(folder: Path, *cases: str, more: str = "", where: str = "tests") -> Path:
    path = folder / "proxy.toml"
    path.write_text(CONFIG + more)
    if cases:
        (folder / where).mkdir()
        (folder / where / "a.toml").write_text("".join(cases))
    return path


def test_cases_that_pass_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert try_cases(configuration(tmp_path, GOOD, BAD)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 cases: 2 passed, 0 failed",
        "1 of 1 policies asked, all of each exercised",
    ]


def test_cases_that_fail_are_told_with_expected_and_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert try_cases(configuration(tmp_path, WRONG)) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"FAILED  a wrong one  ({tmp_path}/tests/a.toml, cases[0])",
        "        expect.verdict: expected forward",
        f"                 found: {NOT_JSON}",
        "",
        "1 case: 0 passed, 1 failed",
        "1 of 1 policies asked; not exercised:",
        '  policy "readings": no case passes it',
    ]


def test_for_programs_there_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert try_cases(configuration(tmp_path, GOOD, WRONG), json=True) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["passed"], document["failed"]) == (1, 1)
    assert [case["verdict"] for case in document["cases"]] == ["forward", "hold"]
    assert document["cases"][1]["problems"] == [
        {"key": "cases[1].expect.verdict", "expected": "forward", "found": NOT_JSON}
    ]
    (policy,) = document["coverage"]["policies"]
    assert (policy["asked"], policy["checks"]) == (2, [{"check": "format json", "failed": 1}])
    assert document["coverage"]["missing"] == []


def test_another_folder_can_be_named_by_setting_or_command(tmp_path: Path) -> None:
    path = configuration(tmp_path, WRONG, more='[tests]\ndirectory = "cases"\n', where="cases")
    assert try_cases(path) == 1
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.toml").write_text(GOOD)
    assert try_cases(path, cases=other) == 0


def test_what_cannot_be_read_exits_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path)
    assert try_cases(path) == 2
    assert capsys.readouterr().err == f"{tmp_path}/tests: no cases (*.toml) here\n"
    configuration(tmp_path, GOOD.replace('"t"', '""'))
    assert try_cases(path) == 2
    assert "cases[0].given.topic: found" in capsys.readouterr().err
    path.write_text("x")
    assert try_cases(path) == 2


def test_a_check_of_the_configuration_tells_cases_that_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configuration(tmp_path, GOOD, WRONG)
    assert check(path) == 1
    assert capsys.readouterr().err == (
        f"{tmp_path}/tests/a.toml: cases[1].expect.verdict: found {NOT_JSON}, expected forward; "
        'the case is "a wrong one"\n'
    )
    (tmp_path / "tests/a.toml").write_text(GOOD + BAD)
    assert check(path) == 0


def test_plug_in_checks_are_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, tried="def check(view):\n    return [('', 'no')] if view.payload == b'2' else []\n")
    displeasing = CASE.format(name="one that displeases", text="2", verdict="hold") + 'keywords = ["plugin"]\n'
    more = '[[policies.plugins]]\nname = "tried"\nbudget = "10s"\n'
    assert try_cases(configuration(tmp_path, GOOD, BAD, displeasing, more=more)) == 0
    assert capsys.readouterr().out.splitlines()[0] == "3 cases: 3 passed, 0 failed"
    assert check(tmp_path / "proxy.toml") == 0
