"""What commands show of held messages whose topics have masks."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import trio

from mqttproxy.cli.held_masks import veil_of
from mqttproxy.quarantine.lock import lock_data_dir
from mqttproxy.telemetry.auditchain import verify
from mqttproxy.telemetry.auditfiles import trail_files
from tests.cli.shell import Shell
from tests.quarantine.examples import make_held
from tests.steering.proxies import open_proxy, text, write

MASKS = '\n[[masks]]\ntopics = ["people/#"]\npaths = ["/name"]\nhow = "drop"\n'
SECRET = b'{"name":"Ann","age":true}'
FAILURES = (("/name", "pattern", "'Ann' is not a name"), ("/age", "type", "true is not a number"))


@pytest.fixture
def masked(shell: Shell) -> Shell:
    shell.config.write_text(shell.config.read_text() + MASKS)
    shell.hold(make_held(topic="people/1", payload=SECRET, failures=FAILURES), make_held(topic="other", payload=SECRET))
    return shell


def audit(shell: Shell) -> list[dict[str, Any]]:
    file = shell.config.parent / "data/audit/audit.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_message_is_shown_without_what_is_masked(masked: Shell) -> None:
    other, people = masked.ids()
    assert masked("show", people) == 0
    assert "Ann" not in masked.out
    assert "told of a masked value" in masked.out
    assert "/age: type: true is not a number" in masked.out
    assert masked("show", people, "--raw") == 0
    assert masked.out == '{"age":true}'
    assert masked("show", people, "--json") == 0
    assert "Ann" not in masked.out
    assert json.loads(masked.out)["json"] == {"age": True}
    assert masked("show", other, "--raw") == 0
    assert masked.out.encode() == SECRET
    assert audit(masked) == []


def test_lists_do_not_quote_it_either(masked: Shell) -> None:
    for arguments in (["list"], ["list", "--json"]):
        assert masked(*arguments) == 0
        assert "Ann" not in masked.out


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_exports_are_masked(form: str, masked: Shell, tmp_path: Path) -> None:
    file = tmp_path / "out"
    assert masked("export", "--topic", "people/#", "--format", form, "--output", str(file)) == 0
    assert b"Ann" not in file.read_bytes()
    if form == "csv":
        assert next(csv.DictReader(io.StringIO(file.read_text())))["payload"] == '{"age":true}'


def test_previews_are_masked(masked: Shell) -> None:
    policy = '[[policies]]\nname = "none"\ntopics = ["people/#"]\nformat = "none"\n'
    masked.config.write_text(masked.config.read_text() + policy)
    for arguments in ([], ["--json"]):
        assert masked("release", "--all", "--preview", "5", *arguments) == 0
        assert '{"age":true}' in masked.out.replace("\\", "")
        assert masked.out.count("Ann") == masked.out.count("other")  # which is not masked, before and after
    assert masked("release", "--topic", "people/#", "--preview", "5", "--unmasked") == 0
    assert masked.out.count("Ann") == 2


def test_who_wants_to_see_through_masks_is_on_record(masked: Shell) -> None:
    people = masked.ids()[1]
    assert masked("show", people, "--raw", "--unmasked") == 0
    assert masked.out.encode() == SECRET
    assert masked("list", "--unmasked") == 0
    assert "'Ann' is not a name" in masked.out
    assert masked("export", "--unmasked") == 0
    assert masked.out.count("Ann") > 0
    assert [(line["event"], line["what"]) for line in audit(masked)] == [
        ("unmasked", f"quarantine show {people}"),
        ("unmasked", "quarantine list"),
        ("unmasked", "quarantine export"),
    ]
    assert verify(trail_files(masked.config.parent / "data/audit")).faults == []


def test_where_nothing_is_masked_nothing_is_on_record(shell: Shell) -> None:
    shell.hold(make_held(payload=SECRET))
    assert shell("show", shell.ids()[0], "--raw", "--unmasked") == 0
    assert shell.out.encode() == SECRET
    assert audit(shell) == []


def test_where_it_cannot_be_put_on_record_nothing_is_shown(masked: Shell) -> None:
    people = masked.ids()[1]
    with lock_data_dir(masked.config.parent / "data"):  # a proxy that does not answer
        assert masked("show", people, "--raw", "--unmasked") == 1
    assert not masked.out
    assert "in use by process" in masked.err
    (masked.config.parent / "data/audit").write_text("no folder")
    assert masked("show", people, "--raw", "--unmasked") == 1
    assert not masked.out


def test_a_key_that_cannot_be_read_shows_nothing(masked: Shell) -> None:
    masked.config.write_text(masked.config.read_text().replace("drop", "hash") + '[masking]\nkey_file = "nowhere"\n')
    assert masked("list") == 1
    assert "masking.key_file" in masked.err
    assert not masked.out


async def test_a_proxy_that_runs_writes_it_down_first(tmp_path: Path) -> None:
    path = write(tmp_path, text(MASKS))
    async with open_proxy(tmp_path) as proxy:
        veil = await trio.to_thread.run_sync(lambda: veil_of(path, unmasked=True, what="quarantine show X"))
        assert veil.payload(SECRET, "people/1") == SECRET
        file = proxy.config.proxy.data_dir / "audit/audit.jsonl"
        line = json.loads(file.read_text().splitlines()[-1])
        assert (line["event"], line["cause"], line["what"]) == ("unmasked", "command", "quarantine show X")
        assert "process " in line["who"]
