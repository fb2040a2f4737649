"""`mqttproxy audit verify`: its words and exit codes."""

import json
from pathlib import Path

import pytest

from mqttproxy.cli.audit import verify
from mqttproxy.cli.commands import app
from mqttproxy.telemetry.audit import AuditTrail


async def trail(folder: Path) -> Path:
    made = AuditTrail(folder / "data" / "audit")
    for number in range(3):
        made.write({"event": f"{number}"})
    await made.flush()
    made._files.close()
    (folder / "proxy.toml").write_text('[proxy]\ndata_dir = "data"\n')
    return folder / "data" / "audit" / "audit.jsonl"


async def test_a_trail_that_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await trail(tmp_path)
    assert verify(config=tmp_path / "proxy.toml") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "3 lines in 1 files: every line follows from the one before it"
    head = said[1].removeprefix("head: ")
    assert verify(directory=tmp_path / "data" / "audit", head=(head,)) == 0
    assert verify(directory=tmp_path / "data" / "audit", head=("f" * 64,)) == 1
    assert f"no line has the hash {'f' * 64}" in capsys.readouterr().err


async def test_a_trail_that_was_tampered_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = await trail(tmp_path)
    file.write_bytes(file.read_bytes().replace(b'"event":"1"', b'"event":"7"'))
    assert verify(config=tmp_path / "proxy.toml", json=True) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert verify(config=tmp_path / "proxy.toml") == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"{file}:3: does not follow the line before it")
    assert "not as it was written" in shown.out


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(directory=tmp_path / "none") == 1
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["short", "g" * 64])
def test_what_is_no_hash_is_a_wrong_use(value: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["audit", "verify", "--directory", str(tmp_path), "--head", value])
    assert ended.value.code in {1, 2}
