"""`mqttproxy access explain`: its words and exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from mqttproxy.cli.access import access_app

CONFIG = """
[[access.rules]]
topics = ["plant/secret"]
action = "deny"

[[access.rules]]
topics = ["plant/${site}/#"]
action = "allow"
"""


@pytest.fixture
def ask(tmp_path: Path, capsys: Any) -> Any:
    (tmp_path / "proxy.toml").write_text(CONFIG)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            access_app(["explain", *arguments, "--config", str(tmp_path / "proxy.toml")])
        said = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, said.out, said.err

    return call


NORTH = ("--client", "d", "--attribute", "site=north")


def test_it_names_the_rule_that_decides(ask: Any) -> None:
    code, out, _ = ask(*NORTH, "--publish", "plant/north/t")
    assert code == 0
    assert out.splitlines() == [
        "allowed: publish 'plant/north/t': access.rules[1]",
        "  allow both plant/${site}/#",
        "  site = 'north'",
    ]
    code, out, _ = ask(*NORTH, "--publish", "plant/south/t")
    assert (code, out.splitlines()[0]) == (1, "denied: publish 'plant/south/t': no rule fits")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--subscribe", "plant/north/+"), 0),
        (("--subscribe", "plant/+"), 1),
        (("--subscribe", "$proxy/errors/other"), 1),
        (("--receive", "plant/north/t"), 0),
        (("--receive", "plant/secret"), 1),
        (("--publish", "$SYS/x"), 1),
        (("--publish", "a/+"), 2),
        (("--publish", "a", "--subscribe", "a"), 2),
        ((), 2),
        (("--publish", "a", "--listener", "none"), 1),
    ],
)
def test_the_exit_code_is_the_answer(ask: Any, arguments: tuple[str, ...], code: int) -> None:
    assert ask(*NORTH, *arguments)[0] == code


def test_D1_a_device_that_would_not_be_let_in_may_nothing(ask: Any) -> None:
    code, _, err = ask("--client", "d", "--attribute", "site=+", "--publish", "plant/north/t")
    assert code == 1
    assert "not let in" in err


def test_for_programs_it_is_one_object(ask: Any) -> None:
    code, out, _ = ask(*NORTH, "--subscribe", "plant/north/#", "--qos", "1", "--json")
    assert code == 0
    answer = json.loads(out)
    assert (answer["allowed"], answer["rule"], answer["attributes"]) == (True, 1, {"site": "north"})
