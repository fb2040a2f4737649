"""Which versions are compared, in which direction, and what a load says of it."""

from pathlib import Path
from typing import Any

import pytest

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.comparing import Answer, compare, elders
from mqttproxy.validation.registry import Registry
from tests.validation.schema_shelf import Shelf, generation, policy

OPEN: Any = {"type": "object", "properties": {"a": {"type": "number"}}}
NEEDS_A = {**OPEN, "required": ["a"]}


def answers(old: Any, new: Any, mode: str = "FULL", kind: str = "json", toml: str = "") -> list[Answer]:
    files = {f"t/1.{kind}": old, f"t/2.{kind}": new, "t/subject.toml": toml.encode()}
    registry = Registry(Shelf(files), Path("schemas"))
    first, second = registry.subject("t").versions
    return compare(registry, first, second, mode, PayloadSettings())


def words(old: Any, new: Any, mode: str = "BACKWARD", kind: str = "json", toml: str = "") -> list[str]:
    return [one.words for answer in answers(old, new, mode, kind, toml) for one in answer.differences]


@pytest.mark.parametrize(
    ("mode", "readers"),
    [("NONE", []), ("BACKWARD", ["2"]), ("FORWARD", ["1"]), ("FULL", ["2", "1"]), ("FULL_TRANSITIVE", ["2", "1"])],
)
def test_a_mode_says_who_must_take_what_the_other_sends(mode: str, readers: list[str]) -> None:
    assert [answer.reader.number for answer in answers(OPEN, NEEDS_A, mode)] == readers


@pytest.mark.parametrize(
    ("mode", "toml", "expected"),
    [
        ("NONE", "", []),
        ("BACKWARD", "", ["2"]),
        ("FORWARD_TRANSITIVE", "", ["2", "1"]),
        ("FULL_TRANSITIVE", "compatibility_from = 2", ["2"]),
        ("FULL_TRANSITIVE", "compatibility_from = 3", []),
    ],
)
def test_transitive_modes_ask_about_all_elders_from_where_the_subject_begins(
    mode: str, toml: str, expected: list[str]
) -> None:
    files = {"t/1.json": {}, "t/2.json": {}, "t/3.json": {}, "t/subject.toml": toml.encode()}
    subject = Registry(Shelf(files), Path("schemas")).subject("t")
    assert [version.number for version in elders(subject, subject.versions[2], mode)] == expected


FILES = {"t/1.json": OPEN, "t/2.json": NEEDS_A, "t/subject.toml": b'compatibility = "BACKWARD"'}


def test_an_incompatible_version_is_a_fault_of_a_load_that_names_it() -> None:
    with pytest.raises(ConfigError) as caught:
        generation(FILES, policy("t@2"))
    assert str(caught.value) == (
        "schemas/t/2.json: /a: found a change against v1 that BACKWARD does not allow; "
        "v2 requires /a, which v1 devices need not send"
    )
    generation(FILES, policy("t@1"))  # then the other one is a draft


def test_an_alias_names_a_version_too() -> None:
    toml = b'compatibility = "BACKWARD"\n[aliases]\ncandidate = 2\n'
    with pytest.raises(ConfigError):
        generation({**FILES, "t/subject.toml": toml}, policy("t@1"))


def test_what_was_checked_elsewhere_is_not_compared_again() -> None:
    generation(FILES, policy("t@2"), checked=True)


def test_an_elder_that_cannot_be_read_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="nothing to compare with"):
        generation({**FILES, "t/1.json": b"{"}, policy("t@2"))


def test_what_is_only_compared_with_is_not_in_force() -> None:
    shelf = Shelf({**FILES, "t/1.json": NEEDS_A})
    generation(shelf, policy("t@2"))
    assert shelf.in_use.keys() == {"t/2.json"}


def test_versions_of_two_kinds_are_not_compatible() -> None:
    registry = Registry(Shelf({"t/1.json": {}, "t/2.avsc": b'"string"'}), Path("schemas"))
    first, second = registry.subject("t").versions
    (answer,) = compare(registry, first, second, "BACKWARD", PayloadSettings())
    assert [one.words for one in answer.differences] == ["v2 is Avro, v1 JSON Schema"]
