"""References: which version they mean, and what is said when they mean none."""

from pathlib import Path
from typing import Any

import pytest

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.policies import CandidateSettings
from mqttproxy.validation.files import digest
from mqttproxy.validation.registry import Registry, UnresolvedError
from tests.validation.schema_shelf import Shelf, contract_of, generation, policy, verdict_on

FILES: dict[str, Any] = {
    "t/1.json": {"type": "number"},
    "t/2.json": {"type": "string"},
    "t/10.json": {"type": "boolean"},
    "t/draft.json": b"not even JSON",
    "t/subject.toml": b"[aliases]\nstable = 2\ncandidate = 'draft'\n",
}


def registry(files: Any = FILES) -> Registry:
    return Registry(Shelf(files), Path("schemas"))


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("t@1", "t@1"),
        ("t@stable", "t@2"),
        ("t@candidate", "t@draft"),
        ("t@>=1", "t@10"),
        ("t@>=1,<3", "t@2"),
        ("t@!=10", "t@2"),
        ("t@draft", "t@draft"),
    ],
)
def test_a_reference_means_one_version(reference: str, version: str) -> None:
    assert registry().resolve(reference) == version


def test_versions_are_in_the_order_of_their_numbers_and_words_come_last() -> None:
    assert [version.number for version in registry().subject("t").versions] == ["1", "2", "10", "draft"]


@pytest.mark.parametrize(
    ("reference", "expected", "hint"),
    [
        ("t@3", "a readable file schemas/t/3.json", 'did you mean "t@10"?'),
        ("t@>10", "a version in that range", "there are 1, 2, 10, draft"),
        ("u@>1", "a version in that range", "there are none"),
        ("t", "subject@version such as", ""),
    ],
)
def test_a_reference_to_nothing_says_what_there_is(reference: str, expected: str, hint: str) -> None:
    with pytest.raises(UnresolvedError) as caught:
        registry().resolve(reference)
    assert expected in caught.value.expected
    assert caught.value.hint == hint or hint not in {"", caught.value.hint} or caught.value.hint.startswith("did you")


def faults_of(files: Any, *policies: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        generation(files, *(policies or (policy(),)))
    return [str(fault) for fault in caught.value.faults]


def test_an_alias_to_a_version_that_is_not_there_is_a_fault() -> None:
    (fault,) = faults_of({"t/1.json": {}, "t/subject.toml": b"[aliases]\nstable = 2\n"})
    assert fault == 'schemas/t/subject.toml: aliases.stable: found "2", expected a version that is there: 1'


def test_an_alias_cannot_hide_a_version() -> None:
    (fault,) = faults_of({"t/1.json": {}, "t/2.json": {}, "t/subject.toml": b"[aliases]\n1 = 2\n"})
    assert "which is a version too" in fault


def test_a_version_in_two_files_is_a_fault() -> None:
    (fault,) = faults_of({"t/1.json": {}, "t/1.avsc": "string"})
    assert "version 1 a second time" in fault


def test_a_policy_judges_by_what_its_reference_means_and_its_verdict_says_so() -> None:
    rules = generation(FILES, policy("t@stable"))
    assert verdict_on(rules, b'"x"').schema == "t@2"
    bad = verdict_on(rules, b"1")
    assert (bad.schema, bool(bad.failures)) == ("t@2", True)


def test_two_references_to_one_version_share_its_contract() -> None:
    rules = generation(FILES, policy("t@stable", name="a"), policy("t@2", name="b", topics=("u",)))
    assert contract_of(rules) is contract_of(rules, "u")


def test_a_format_that_the_schema_is_not_for_is_a_fault() -> None:
    (fault,) = faults_of(FILES, policy("t@1", format="avro"))
    assert fault == (
        'proxy.toml: policies[0].format: found "avro"; t@1 is for json; '
        "without a format that is what the payload must be"
    )


def test_a_version_that_nothing_names_may_be_broken() -> None:
    generation(FILES, policy("t@1"))
    assert any("draft.json" in fault for fault in faults_of(FILES, policy("t@candidate")))


def test_what_was_in_force_cannot_change() -> None:
    shelf = Shelf({"t/1.json": {"$ref": "../c/1.json"}, "c/1.json": {"type": "number"}, "t/subject.toml": b""})
    generation(shelf, policy())
    assert shelf.in_use == {path: digest(shelf.files[path]) for path in ("t/1.json", "c/1.json")}
    shelf.remembered = dict(shelf.in_use)
    generation(shelf, policy())
    shelf.files["c/1.json"] = b'{"type": "string"}'
    shelf.files["t/subject.toml"] = b"compatibility = 'FULL'"
    for checked in (False, True):
        with pytest.raises(ConfigError) as caught:
            generation(shelf, policy(), checked=checked)
        assert str(caught.value) == (
            "schemas/c/1.json: found other content than it had when it was used, expected the same; version 1 of c "
            "was in force and cannot change: restore this file, and put the change into a new version"
        )


def test_a_folder_whose_configuration_has_faults_is_not_in_use() -> None:
    shelf = Shelf({"t/1.json": {}})
    with pytest.raises(ConfigError):
        generation(shelf, policy(), policy("u@1", name="q"))
    assert shelf.in_use == {}


def test_what_only_candidates_use_may_change() -> None:
    shelf = Shelf({"t/1.json": {"type": "number"}, "t/2.json": {"type": "string"}})
    with_candidate = policy(shadow=CandidateSettings(schema="t@2"))
    before = generation(shelf, with_candidate).policies[0].shadow
    assert set(shelf.in_use) == {"t/1.json"}
    shelf.files["t/2.json"] = b'{"type": "boolean"}'
    after = generation(shelf, with_candidate).policies[0].shadow
    assert before is not None
    assert after is not None
    assert before.fingerprint != after.fingerprint
    in_force_too = generation(shelf, with_candidate, policy("t@2", name="q")).policies[0].shadow
    assert set(shelf.in_use) == {"t/1.json", "t/2.json"}
    assert in_force_too is not None
    assert in_force_too.fingerprint == after.fingerprint


def test_a_candidate_that_cannot_be_compiled_is_a_fault_at_its_key() -> None:
    faults = faults_of({"t/1.json": {}}, policy(shadow=CandidateSettings(schema="t@2")))
    assert [fault.split(": found")[0] for fault in faults] == ["proxy.toml: policies[0].shadow.schema"]
    (fault,) = faults_of(
        {"t/1.json": {}, "t/2.json": {"type": "nmber"}}, policy(shadow=CandidateSettings(schema="t@2"))
    )
    assert fault.startswith("schemas/t/2.json: /type: ")


def test_what_is_wrong_with_a_schema_is_told_once_whoever_uses_it() -> None:
    twice = (policy(shadow=CandidateSettings(schema="t@2")), policy("t@2", name="q"))
    assert len(faults_of({"t/1.json": {}, "t/2.json": b"{"}, *twice)) == 1
