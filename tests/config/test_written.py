"""The reference page and the example say what the model says, and the example is a good configuration."""

import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest

from mqttproxy.config.kinds import file_key
from mqttproxy.config.load import load_config
from mqttproxy.config.model import ProxyConfig, every_table
from mqttproxy.config.structure import structure
from mqttproxy.config.written import EXAMPLE, REFERENCE, is_table, render_example, render_reference
from tests.config.documents import faults

TOP = Path(__file__).parents[2]
ADVICE = "stale: run `python -m mqttproxy.config.written` in the top folder"


TABLES: dict[str, Any] = {name: kind for name, _, kind in every_table()}
SETTINGS = [(table, field) for table, kind in TABLES.items() for field in attrs.fields(kind) if not is_table(field)]
IDS = [f"{table}.{file_key(field.name)}" for table, field in SETTINGS]


def everything() -> str:
    """Return the example with the settings in force that it shows as comments."""
    return re.sub(r"^#(?=[a-z\[])", "", (TOP / EXAMPLE).read_text(), flags=re.MULTILINE)


def shown(table: str) -> Any:
    """Return the settings of a table as the example shows them."""
    value: Any = structure(tomllib.loads(everything()), "proxy.toml.example")
    for name in table.split("."):
        value = getattr(value, name)
        value = value[0] if isinstance(value, tuple) else value
    return value


def test_the_reference_page_is_fresh() -> None:
    assert (TOP / REFERENCE).read_text() == render_reference(), ADVICE


def test_the_example_is_fresh() -> None:
    assert (TOP / EXAMPLE).read_text() == render_example(), ADVICE


@pytest.mark.parametrize(("table", "field"), SETTINGS, ids=IDS)
def test_every_setting_is_on_the_reference_page(table: str, field: Any) -> None:
    section = re.split(r"^## ", (TOP / REFERENCE).read_text(), flags=re.MULTILINE)
    (of_table,) = [part for part in section if part.startswith((f"`[{table}]`", f"`[[{table}]]`"))]
    assert f"| `{file_key(field.name)}` |" in of_table


@pytest.mark.parametrize(("table", "field"), SETTINGS, ids=IDS)
def test_every_setting_is_in_the_example_with_its_default(table: str, field: Any) -> None:
    value: Any = tomllib.loads(everything())
    for name in table.split("."):
        value = value[name]
        value = value[0] if isinstance(value, list) else value
    assert file_key(field.name) in value
    if field.default not in {attrs.NOTHING, None}:
        assert getattr(shown(table), field.name) == field.default


def test_the_example_is_a_configuration_with_nothing_but_defaults() -> None:
    config = load_config(TOP / EXAMPLE)
    default = ProxyConfig()
    assert config.listeners == default.listeners
    for name in ("limits", "access", "topics", "payload", "default", "quarantine", "telemetry", "audit"):
        assert getattr(config, name) == getattr(default, name)
    assert (config.policies, config.upstreams, config.routes) == ((), (), ())


def place(table: str) -> str:
    """Return the key of a table, the first one where there may be many."""
    headings = {name: heading for name, heading, _ in every_table()}
    parts = table.split(".")
    names = [".".join(parts[: end + 1]) for end in range(len(parts))]
    return ".".join(part + "[0]" * headings[name].startswith("[[") for part, name in zip(parts, names, strict=True))


def _misspelt(name: str) -> str:
    return f"{name[:-1]}x{name[-1]}"


@pytest.mark.parametrize(("table", "field"), SETTINGS, ids=IDS)
def test_every_misspelt_setting_is_told_with_the_right_one(table: str, field: Any) -> None:
    before, heading, after = everything().partition(f"[{table}]")
    wrong = _misspelt(file_key(field.name))
    text = before + heading + re.sub(rf"^{file_key(field.name)} = ", f"{wrong} = ", after, count=1, flags=re.MULTILINE)
    sentences = [sentence for sentence in faults(text) if "unknown key" in sentence]
    assert sentences == [f'{place(table)}.{wrong}: found an unknown key; did you mean "{file_key(field.name)}"?']


@pytest.mark.parametrize("table", TABLES)
def test_every_misspelt_table_is_told_with_the_right_one(table: str) -> None:
    text = everything().replace(f"[{table}]", f"[{_misspelt(table)}]")
    parent, _, name = table.rpartition(".")
    within = f"{place(parent)}." if parent else ""
    assert f'{within}{_misspelt(name)}: found an unknown key; did you mean "{name}"?' in faults(text)
