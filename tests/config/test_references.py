import pytest
from attrs import frozen

from mqttproxy.config.references import candidate_keys, parse_reference, schema_references
from tests.config.documents import parse


@pytest.mark.parametrize("text", ["t@1", "t@1.2.3", "t@stable", "t@>=1", "t@>=1,<3", "t@ >= 1.5 , != 2"])
def test_versions_aliases_and_ranges_are_references(text: str) -> None:
    assert parse_reference(text) is not None


@pytest.mark.parametrize("text", ["", "t", "t@", "@1", "t@>=", "t@>=x", "t@1,2", "t@>=1,", "../t@1", "t@../1", "t@~1"])
def test_anything_else_is_none(text: str) -> None:
    assert parse_reference(text) is None


@pytest.mark.parametrize(
    ("conditions", "inside", "outside"),
    [
        (">=1,<3", ["1", "2", "2.9.9", "1.0"], ["0.9", "3", "3.0", "draft"]),
        (">1", ["1.1", "2"], ["1", "1.0"]),
        ("==2", ["2", "2.0"], ["2.0.1"]),
        ("!=2,<=10", ["10", "9"], ["2", "11"]),
    ],
)
def test_a_range_compares_numbers_and_not_letters(conditions: str, inside: list[str], outside: list[str]) -> None:
    reference = parse_reference(f"t@{conditions}")
    assert reference is not None
    assert [version for version in [*inside, *outside] if reference.admits(version)] == inside


@frozen
class Binding:
    schema: str


@frozen
class Policy:
    schema: str | None = None
    bindings: tuple[Binding, ...] = ()


@frozen
class Config:
    policies: tuple[Policy, ...] = ()
    one: Policy = Policy()


def test_every_setting_called_schema_names_one_however_deep_it_stands() -> None:
    config = Config((Policy("a@1", (Binding("b@1"), Binding("a@1"))), Policy()), Policy("c@stable"))
    assert schema_references(config) == [
        ("policies[0].schema", "a@1"),
        ("policies[0].bindings[0].schema", "b@1"),
        ("policies[0].bindings[1].schema", "a@1"),
        ("one.schema", "c@stable"),
    ]


def test_schemas_of_candidates_are_known_by_their_keys() -> None:
    later = '[[policies]]\nname = "later"\ntopics = ["t"]\nlevel = "off"\nschema = "t@3"\n'
    now = '[[policies]]\nname = "now"\ntopics = ["t"]\nschema = "t@1"\n[policies.shadow]\npolicy = "later"\n'
    config = parse(later + now)
    keys = set(candidate_keys(config))
    assert {key: key in keys for key, _ in schema_references(config)} == {
        "policies[0].schema": True,
        "policies[1].schema": False,
    }
    assert "policies[1].shadow.schema" in keys
