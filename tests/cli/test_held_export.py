import csv
import io
import json
import stat
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import given, strategies as st

from mqttproxy.cli.held_export import COLUMNS, harmless
from mqttproxy.quarantine.payloads import FOLDER
from tests.cli.shell import Shell
from tests.quarantine.examples import NOW, make_held

LARGE = b"larger than ten bytes"


def test_export_writes_payloads_the_oldest_first(shell: Shell) -> None:
    shell.hold(make_held(payload=b"1", at=NOW), make_held(payload=LARGE, at=NOW + 1))
    assert shell("export") == 0
    lines = [json.loads(line) for line in shell.out.splitlines()]
    assert [line["payload"] for line in lines] == ["MQ==", "bGFyZ2VyIHRoYW4gdGVuIGJ5dGVz"]
    assert [line.get("json") for line in lines] == [1, None]
    assert "2 messages exported" in shell.err


def test_G12_an_exported_file_is_for_its_owner_only(shell: Shell, tmp_path: Path) -> None:  # the row's id
    shell.hold(make_held())
    output = tmp_path / "out.jsonl"
    output.write_text("from before, and much longer than one line of what will be written here" * 100)
    output.chmod(0o644)
    assert shell("export", "--output", str(output)) == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert len(output.read_text().splitlines()) == 1
    assert not shell.out


def test_export_tells_of_a_payload_that_cannot_be_read_and_goes_on(shell: Shell) -> None:
    lost = make_held(payload=LARGE)
    shell.hold(lost, make_held())
    for file in (shell.directory / FOLDER).iterdir():
        file.unlink()
    assert shell("export") == 1
    assert len(shell.out.splitlines()) == 1
    assert f"{lost.id}: the payload cannot be read" in shell.err
    assert shell("show", lost.id) == 1


def rows(shell: Shell) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(shell.out)))


def test_csv_has_a_row_for_each_message_with_its_first_failure(shell: Shell) -> None:
    shell.hold(make_held(payload=b'{"a": "b,c\\n"}', at=NOW), make_held(payload=b"\xff\x00", at=NOW + 1, retain=True))
    assert shell("export", "--format", "csv") == 0
    first, second = rows(shell)
    assert tuple(first) == COLUMNS
    assert (first["payload"], first["payload_hex"]) == ('{"a": "b,c\\n"}', "")
    assert (first["pointer"], first["keyword"], first["reason"]) == ("/value", "required", "0x99")
    assert first["time"] == "2027-01-15T08:00:00.000+00:00"
    assert (second["payload"], second["payload_hex"], second["retain"]) == ("", "ff00", "1")


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_G4_no_cell_of_csv_is_taken_for_a_formula(shell: Shell, begin: str) -> None:
    evil = begin + "HYPERLINK(1)"
    failure = (evil, evil, evil)
    shell.hold(make_held(client_id=evil, username=evil, topic=evil, payload=evil.encode(), failures=(failure,)))
    assert shell("export", "--format", "csv") == 0
    (row,) = csv.reader(io.StringIO(shell.out, newline="").readlines()[1:])
    assert row.count("'" + evil) == 7
    assert not [cell for cell in row if cell.startswith(begin)]


@given(st.text())
def test_G4_a_harmless_cell_is_the_text_but_for_an_apostrophe(text: str) -> None:
    cell = harmless(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell.removeprefix("'") == text.removeprefix("'")


def test_parquet_keeps_types_and_bytes(shell: Shell, tmp_path: Path) -> None:
    shell.hold(make_held(payload=b"\xff\x00", at=NOW), make_held(payload=LARGE, at=NOW + 1, policy=None))
    output = tmp_path / "held.parquet"
    assert shell("export", "--format", "parquet", "--output", str(output)) == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    first, second = pyarrow.parquet.read_table(output).to_pylist()
    assert (first["payload"], second["payload"]) == (b"\xff\x00", LARGE)
    assert first["time"].timestamp() == NOW
    assert (first["qos"], first["retain"], first["reason"], second["policy"]) == (1, False, 0x99, None)
    assert first["failures"] == [{"pointer": "/value", "keyword": "required", "message": "value is missing"}]


def test_nothing_held_makes_an_empty_parquet_file(shell: Shell, tmp_path: Path) -> None:
    shell.hold(make_held())
    output = tmp_path / "held.parquet"
    assert shell("export", "--client", "nobody", "--format", "parquet", "--output", str(output)) == 0
    assert pyarrow.parquet.read_table(output).num_rows == 0


def test_parquet_needs_a_file_and_pyarrow(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.hold(make_held())
    assert shell("export", "--format", "parquet") == 2
    assert "give --output" in shell.err
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert shell("export", "--format", "parquet", "--output", str(tmp_path / "x")) == 2
    assert "pip install 'mqttproxy[parquet]'" in shell.err
    assert not (tmp_path / "x").exists()
