"""`make audit` tells apart: vulnerabilities, packages that were not looked up, a database that cannot be asked."""

import json
import sys
from pathlib import Path

import pytest

from scripts.audit import main

GOOD = {"name": "attrs", "version": "26.1.0", "vulns": []}
BAD = {
    "name": "trio",
    "version": "0.1",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["0.2"], "description": "x"}],
}
SKIPPED = {"name": "ours", "skip_reason": "Dependency not found on PyPI"}


def pip_audit(folder: Path, stdout: str, stderr: str = "", code: int = 0) -> str:
    """Write a program that says this, whatever it is asked."""
    program = folder / "pip-audit"
    lines = (f"#!{sys.executable}", "import sys", f"print({stdout!r})", f"print({stderr!r}, file=sys.stderr)")
    program.write_text("\n".join([*lines, f"sys.exit({code})"]))
    program.chmod(0o755)
    return str(program)


def said(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_nothing_known_is_told_with_how_many_were_looked_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([pip_audit(tmp_path, said(GOOD, GOOD)), "a.lock", "b.lock"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [f"{name}.lock: 2 packages, 0 known vulnerabilities" for name in "ab"]
    assert not shown.err


def test_a_vulnerability_is_told_by_its_names_and_what_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([pip_audit(tmp_path, said(GOOD, BAD, SKIPPED), code=1), "a.lock"]) == 1
    assert "a.lock: VULNERABLE: trio 0.1: PYSEC-1, CVE-1; mended in 0.2\n" in capsys.readouterr().err


def test_a_package_that_was_not_looked_up_is_no_good_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([pip_audit(tmp_path, said(GOOD, SKIPPED)), "a.lock"]) == 2
    assert "a.lock: NOT CHECKED: ours: Dependency not found on PyPI\n" in capsys.readouterr().err


@pytest.mark.parametrize(("stdout", "stderr"), [("", "what\nno network\n"), ("{}", ""), ("[]", "")])
def test_a_database_that_cannot_be_asked_is_said_loudly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stdout: str, stderr: str
) -> None:
    assert main([pip_audit(tmp_path, stdout, stderr, 1), "a.lock"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("*** a.lock: NOT CHECKED: the vulnerability database could not be asked: ")
    assert ("no network" in told) is bool(stderr)


def test_a_program_that_is_not_there_is_said_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), "a.lock"]) == 2
    assert "NOT CHECKED" in capsys.readouterr().err
