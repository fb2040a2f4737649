"""`mqttproxy shadow`: what it asks, what it prints, and its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mqttproxy.cli.shadow import shadow, tabulate
from tests.steering.proxies import connect, open_proxy, text, write

POLICY = """
[[policies]]
name = "temperature"
topics = ["t"]
format = "json"
[policies.shadow]
policy = "later"
[[policies]]
name = "later"
topics = ["t"]
level = "off"
format = "none"
"""
NOTHING = {"both_pass": 0, "would_break": 0, "would_heal": 0, "both_fail": 0}
FAILURE = {"pointer": "/celsius", "keyword": "maximum", "message": "51 is too much"}
TOLD: dict[str, Any] = {
    "policy": "temperature",
    "candidate": "schema temperature@2",
    "percent": 100.0,
    "since": 0.0,
    "not_judged": {"left_out": 0, "dropped": 3, "raised": 0},
    "messages": 120,
    **NOTHING,
    "both_pass": 118,
    "would_break": 2,
    "by": {
        "policy": {"rows": [], "other": NOTHING},
        "attribute": {
            "rows": [{"key": "firmware = 2.0", **NOTHING, "would_break": 2}],
            "other": NOTHING | {"both_pass": 118},
        },
        "pointer": {"rows": [{"key": "", **NOTHING, "would_break": 2}], "other": NOTHING},
        "device": {"rows": [], "other": NOTHING},
    },
    "samples": {
        "would_break": [
            {"id": None, "device": "old", "topic": "t", "policies": ["temperature"], "failures": []},
            {
                "id": None, "device": "d\x1b", "topic": "t", "payload": '{"celsius": 51}', "policies": ["temperature"],
                "failures": [FAILURE, FAILURE | {"pointer": ""}],
            },
        ],
        "would_heal": [],
        "both_fail": [],
    },
}  # fmt: skip


def test_people_are_told_cells_shares_and_samples() -> None:
    assert list(tabulate([TOLD])) == [
        "policy temperature, candidate schema temperature@2: 120 messages since 1970-01-01 00:00:00 UTC",
        "  both pass    118",
        "  would break    2  pass now, would fail with the candidate",
        "  would heal     0  fail now, would pass with the candidate",
        "  both fail      0",
        "  not judged: 3 for which there was no room",
        "",
        "  attribute         both pass  would break   would heal    both fail",
        "  firmware = 2.0            0            2            0            0",
        "  all others              118            0            0            0",
        "",
        "  pointer    both pass  would break   would heal    both fail",
        "  whole              0            2            0            0",
        "",
        "  would break, the newest:",
        '    d\\x1b on t: {"celsius": 51}',
        "      /celsius: maximum: 51 is too much",
        "      whole: maximum: 51 is too much",
        "    old on t:",
    ]


def test_several_candidates_stand_apart() -> None:
    lines = list(tabulate([TOLD, TOLD]))
    assert len(lines) == 2 * len(list(tabulate([TOLD]))) + 1


async def test_the_running_proxy_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, text(POLICY))
    async with open_proxy(tmp_path) as proxy:
        device = await connect(proxy)
        device.send_nowait(b"\x32\x06\x00\x01t\x00\x011")
        assert bytes(await device.receive()) == b"\x40\x02\x00\x01"
        await trio.testing.wait_all_tasks_blocked()
        assert await trio.to_thread.run_sync(lambda: shadow(file, json=True)) == 0
        answer = json.loads(capsys.readouterr().out)
        assert [(one["policy"], one["would_break"]) for one in answer["shadows"]] == [("temperature", 1)]
        assert await trio.to_thread.run_sync(lambda: shadow(file, policy="temperature")) == 0
        assert "policy temperature, candidate policy later: 1 messages" in capsys.readouterr().out
        assert await trio.to_thread.run_sync(lambda: shadow(file, policy="nobody")) == 1
        assert capsys.readouterr().err == f"{file}: no candidate is judged for policy nobody\n"
        device.abort()


def test_nobody_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, text())
    assert shadow(file) == 1
    assert "no proxy answers" in capsys.readouterr().err


def test_a_proxy_of_another_version_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"done": False, "faults": ["not a request"]}
    monkeypatch.setattr("mqttproxy.cli.shadow.ask_running", lambda *_, **__: answer)
    assert shadow(tmp_path) == 1
    assert "of another version: not a request" in capsys.readouterr().err
