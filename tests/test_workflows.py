"""The workflows: what they run of others is pinned, and what may write runs nothing of ours."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
WORKFLOWS = sorted((TOP / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_by_commit_with_the_version_beside_it(file: Path) -> None:
    used = re.findall(r"uses: (.*)", file.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_only_the_job_that_publishes_may_write_and_it_checks_out_and_installs_nothing() -> None:
    text = (TOP / ".github/workflows/release.yml").read_text()
    before, publish = text.split("  publish:\n")
    assert "permissions: {}\n" in before
    assert ": write" not in before
    assert re.findall(r"(\w+): write", publish) == ["contents"]
    assert not re.findall(r"checkout|setup-python|make |pip |python", publish)
