"""Kill -9 under load, in short: `python -m tests.faults.kills` does it hundreds of times, at the full rate."""

from pathlib import Path
from typing import Final

import pytest

from tests.faults.forms import LONG
from tests.faults.killing import Plan
from tests.faults.kills import kill_proxy, table

RATE: Final = 1000 if LONG else 300
DEVICES: Final = 12
BETWEEN: Final = (0.4, 1.0)
POLICIES: Final = ("all", "spool")


@pytest.mark.parametrize("ack", POLICIES)
def test_X17_kill_9_of_the_proxy_loses_nothing_and_keeps_the_order(tmp_path: Path, ack: str) -> None:
    plan = Plan(kills=3, rate=RATE, devices=DEVICES, between=BETWEEN)
    outcome = kill_proxy(tmp_path, plan, ack=ack)
    outcome.check(repeats=(1,))
    assert outcome.report.acknowledged == outcome.report.sent > RATE
    # What was under way, at each broker: a message that was on disk already is carried by the next process, and sent
    # again by its device, which had not been told.
    assert outcome.report.worst[1] <= 2 * 3 * DEVICES * 64
    assert outcome.forgotten == 0
    assert len(outcome.ready) == 3, table([outcome])


def test_X1_kill_9_of_the_brokers_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    plan = Plan(kills=3, rate=RATE, devices=DEVICES, between=BETWEEN, victim="broker")
    outcome = kill_proxy(tmp_path, plan)
    outcome.check(repeats=(1, 2))  # what was under way: with its memory the broker has lost what it had of QoS 2
    assert outcome.report.acknowledged == outcome.report.sent > RATE
    assert outcome.report.worst[1] + outcome.report.worst[2] <= DEVICES * 64
