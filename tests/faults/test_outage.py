"""An upstream that is away for a while: `python -m tests.faults.outage` does it for minutes, at the full rate."""

from pathlib import Path
from typing import Final

import pytest

from tests.faults.forms import LONG
from tests.faults.killing import Plan
from tests.faults.outage import table, take_down

RATE: Final = 200
DOWN_FOR: Final = 6.0 if LONG else 2.0


@pytest.mark.parametrize("kill", [False, True])
def test_X1_a_broker_that_was_away_gets_all_it_has_missed_in_order(tmp_path: Path, kill: bool) -> None:
    plan = Plan(kills=0, rate=RATE, devices=12, victim="broker")
    result = take_down(tmp_path, plan, down_for=DOWN_FOR, steady=1.0, kill=kill)
    result.check()  # at the end nothing is in the spool, or it says so
    report = result.outcome.report
    assert report.acknowledged == report.sent > RATE * DOWN_FOR
    assert report.received["up0"] == report.sent
    assert result.outcome.forgotten == 0
    assert len(result.restarts) == 2 * kill
    assert "up0 down" in table(result)
