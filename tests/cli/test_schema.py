"""The commands on schemas, on files: what they say, and their exit codes."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from mqttproxy.cli.schema import Mode, alias, check, compat, list_, remove, show
from mqttproxy.validation.subjects import MODES

CONFIG = """
[[policies]]
name = "temperature"
topics = ["sensor/+/temperature"]
schema = "temperature@stable"
[[policies.bindings]]
schema = "temperature@<2"
when = { client_id = ["old-*"] }
"""
READING = {"type": "object", "required": ["celsius"], "properties": {"celsius": {"type": "number"}}}
STRICTER = {**READING, "required": ["celsius", "unit"]}
Output = pytest.CaptureFixture[str]


def test_the_command_has_the_modes_that_files_have() -> None:
    assert set(get_args(Mode)) == set(MODES)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "proxy.toml"
    file.write_text(CONFIG)
    put(tmp_path, "temperature/1.json", READING)
    put(tmp_path, "temperature/2.json", {**READING, "title": "Reading"})
    put(tmp_path, "temperature/3.json", STRICTER)
    put(tmp_path, "common/1.json", {"type": "string"})
    put(tmp_path, "other/1.json", {"$ref": "../common/1.json"})
    (tmp_path / "schemas/temperature/subject.toml").write_text('compatibility = "BACKWARD"\n[aliases]\nstable = 2\n')
    return file


def put(folder: Path, path: str, schema: Any) -> None:
    file = folder / "schemas" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(schema))


def test_the_list_tells_versions_aliases_and_users(config: Path, capsys: Output) -> None:
    assert list_(config=config) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["common@1", "json", "used", "by", "1"],
        ["other@1", "json"],
        ["temperature@1", "json", "used", "by", "1"],
        ["temperature@2", "(stable)", "json", "used", "by", "1"],
        ["temperature@3", "json"],
    ]
    assert list_(config=config, json=True) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[3])
    assert facts["used_by"] == [f'{config}: policies[0].schema = "temperature@stable"']


def test_a_reference_is_shown_with_its_schema(config: Path, capsys: Output) -> None:
    assert show("temperature@stable", config=config) == 0
    out = capsys.readouterr().out
    assert "schema:        temperature@2" in out
    assert '"title": "Reading"' in out
    assert show("temperature@>=1,<3", config=config, json=True) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "temperature@2"
    assert show("temperature@9", config=config) == 1
    assert "did you mean" in capsys.readouterr().err


def test_the_check_looks_at_drafts_and_compatibility_too(config: Path, capsys: Output) -> None:
    assert check("other", "common", config=config) == 0
    assert capsys.readouterr().out.endswith("ok: 2 subjects, 2 versions\n")
    assert check(config=config) == 1
    assert capsys.readouterr().err == (
        f"{config.parent}/schemas/temperature/3.json: /unit: found a change against v2 that BACKWARD does not allow; "
        "v3 requires /unit, which v2 devices do not send\n"
    )
    put(config.parent, "temperature/3.json", {"type": "nonsense"})
    assert check("temperature", "no", config=config, json=True) == 1
    words = [json.loads(line)["words"] for line in capsys.readouterr().err.splitlines()]
    assert len(words) == 2
    assert "a subject that is there" in words[0]
    assert "nonsense" in words[1]


def test_compatibility_is_answered_in_plain_words(config: Path, capsys: Output) -> None:
    assert compat("temperature@3", config=config) == 1
    assert capsys.readouterr().out.splitlines() == [
        "temperature@3 takes what devices of temperature@2 send: no",
        "  v3 requires /unit, which v2 devices do not send",
    ]
    assert compat("temperature@3", mode="FORWARD", config=config) == 0
    assert compat("temperature@3", against="temperature@1", mode="FULL", config=config, json=True) == 1
    backward, forward = map(json.loads, capsys.readouterr().out.splitlines()[1:])
    assert backward["differences"] == [{"pointer": "/unit", "words": "v3 requires /unit, which v1 devices do not send"}]
    assert forward == {"reader": "temperature@1", "writer": "temperature@3", "compatible": True, "differences": []}
    assert compat("temperature@1", config=config) == 0
    assert capsys.readouterr().out == "temperature@1: nothing to compare it with\n"
    put(config.parent, "temperature/2.json", {"type": "nonsense"})
    assert compat("temperature@3", config=config) == 1
    assert "it cannot be compared" in capsys.readouterr().err


def test_an_alias_is_made_moved_and_removed(config: Path, capsys: Output) -> None:
    toml = config.parent / "schemas/temperature/subject.toml"
    assert alias("temperature@candidate", "2", config=config) == 0
    assert capsys.readouterr().out == "temperature@candidate means temperature@2\n"
    assert alias("temperature@stable", "1", config=config) == 0
    assert "policies[0].schema names it: the next reload" in capsys.readouterr().out
    assert toml.read_text() == 'compatibility = "BACKWARD"\n[aliases]\nstable = "1"\ncandidate = "2"\n'
    assert alias("temperature@candidate", remove=True, config=config) == 0
    assert "candidate" not in toml.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("temperature@candidate", "3"), 1, "v3 requires /unit"),  # a load would fail
        (("temperature@candidate", "9"), 1, "did you mean"),
        (("temperature@2", "1"), 1, "it is the name of a version"),
        (("temperature", "1"), 2, "use: "),
        (("temperature@x",), 2, "use: "),
    ],
)
def test_an_alias_that_could_not_be_loaded_is_refused(
    arguments: Any, code: int, words: str, config: Path, capsys: Output
) -> None:
    before = (config.parent / "schemas/temperature/subject.toml").read_text()
    assert alias(*arguments, config=config) == code
    assert words in capsys.readouterr().err
    assert (config.parent / "schemas/temperature/subject.toml").read_text() == before


def test_an_alias_in_use_is_not_removed(config: Path, capsys: Output) -> None:
    assert alias("temperature@stable", remove=True, config=config) == 1
    assert "temperature@stable is used" in capsys.readouterr().err
    assert alias("temperature@other", remove=True, config=config) == 1


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("temperature@2", 'policies[0].schema = "temperature@stable"'),
        ("temperature@2", "subject.toml: alias stable"),
        ("temperature@1", 'policies[0].bindings[0].schema = "temperature@<2"'),
        ("common@1", "other/1.json"),
    ],
)
def test_what_is_used_cannot_be_removed(name: str, user: str, config: Path, capsys: Output) -> None:
    assert remove(name, config=config) == 1
    assert user in capsys.readouterr().err
    assert (config.parent / "schemas" / f"{name.replace('@', '/')}.json").exists()


def test_what_a_proto_file_imports_cannot_be_removed(config: Path, capsys: Output) -> None:
    for path, text in (("p/1.proto", 'import "units/1.proto";'), ("units/1.proto", "")):
        file = config.parent / "schemas" / path
        file.parent.mkdir()
        file.write_text(text)
    assert remove("units@1", config=config) == 1
    assert "p/1.proto" in capsys.readouterr().err


def test_what_nothing_uses_is_removed(config: Path, capsys: Output) -> None:
    assert remove("temperature@3", config=config) == 0
    assert not (config.parent / "schemas/temperature/3.json").exists()
    assert remove("temperature@3", config=config) == 1
    assert remove("temperature@stable", config=config) == 1
    assert "it is an alias" in capsys.readouterr().err
    assert remove("temperature@>1", config=config) == 2
