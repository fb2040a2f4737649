"""The pages name things that are there: rooms, functions, tests, settings with their defaults; and files stay small."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import attrs
import pytest

import mqttproxy
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import load_config
from mqttproxy.config.model import Bytes, ProxyConfig, Seconds
from mqttproxy.config.units import write_duration, write_size

TOP = Path(__file__).parents[1]
DOCS = TOP / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), TOP / "README.md", TOP / "CHANGELOG.md"]
LONGEST_FILE = 400

# Modules of the map that are no rooms.
DOORSTEPS = {"__main__"}

TABLES: dict[str, Any] = {
    table.name: get_args(table.type)[0] if get_origin(table.type) is tuple else table.type
    for table in attrs.fields(ProxyConfig)
}


def names_in_code() -> set[str]:
    """Return the names of all modules, classes, functions and attributes that the package defines."""
    names: set[str] = set()
    for file in (TOP / "mqttproxy").rglob("*.py"):
        names.add(file.stem)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
    return names


def rooms_of_the_map() -> set[str]:
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return {room for layer in layers for room in re.split(r"\s*\|\s*", layer)} - DOORSTEPS


def written(setting: Any) -> str:
    """Return the default of a setting as the pages for people write it."""
    if setting.type is Seconds:
        return re.sub(r"(?<=\d)(?=[a-z])", " ", write_duration(setting.default))
    if setting.type is Bytes:
        return re.sub(r"(?<=\d)(?=[A-Z])", " ", write_size(setting.default))
    return "see there" if setting.default is None else f"{setting.default:,}"


def bounds() -> Iterator[Any]:
    for line in (DOCS / "denial-of-service.md").read_text().splitlines():
        if line.startswith("| ") and (settings := re.findall(r"`(\w+)\.(\w+)`", line)):
            yield pytest.param(settings, line.rstrip("| ").rpartition("| ")[2], id=settings[0][1])


@pytest.mark.parametrize("file", sorted((TOP / "mqttproxy").rglob("*.py")), ids=lambda file: str(file.relative_to(TOP)))
def test_files_are_small(file: Path) -> None:
    assert len(file.read_text().splitlines()) < LONGEST_FILE, "split it by meaning"


def test_architecture_and_package_name_every_room_of_the_map() -> None:
    page = (DOCS / "architecture.md").read_text()
    table = {match[1] for match in re.finditer(r"^\| `(\w+)`", page, re.MULTILINE)}
    assert table == rooms_of_the_map()
    named = {line.split()[0] for line in (mqttproxy.__doc__ or "").splitlines() if line.startswith("    ")}
    assert named <= table


def test_architecture_names_functions_that_are_there() -> None:
    page = (DOCS / "architecture.md").read_text()
    called = set(re.findall(r"`((?:[A-Z]\w+\.)?_?[a-z]\w+|[A-Z][a-z]\w+)(?:\(.*?\))?`", page))
    assert len(called) > 40, "the pattern has lost what it looks for"
    parts = {part for name in called for part in name.split(".")}
    assert parts - names_in_code() - rooms_of_the_map() <= {"socket", "ssl"}


def test_pages_name_tests_and_files_that_are_there() -> None:
    for page in PAGES:
        for path in re.findall(r"`((?:tests|bench|fuzz|mqttproxy)/[\w./]+)`", page.read_text()):
            assert (TOP / path).exists(), f"{page.name}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_settings_that_are_there(page: Path) -> None:
    for table, key in re.findall(r"`(\w+)\.(\w+)(?: = .*?)?`", page.read_text()):
        if table in TABLES and key != "toml":
            assert key in {field.name for field in attrs.fields(TABLES[table])}, f"{table}.{key}"


@pytest.mark.parametrize(("settings", "told"), list(bounds()))
def test_bounds_are_told_with_their_defaults(settings: list[tuple[str, str]], told: str) -> None:
    fields = [getattr(attrs.fields(TABLES[table]), key) for table, key in settings]
    assert told == ", ".join(written(field) for field in fields)


def test_the_readme_shows_a_configuration_that_is_right_but_for_its_files(tmp_path: Path) -> None:

    shown = re.findall(r"```toml\n(.*?)```", (TOP / "README.md").read_text(), re.DOTALL)
    assert len(shown) == 1
    file = tmp_path / "proxy.toml"
    file.write_text(shown[0])
    with pytest.raises(ConfigError) as raised:
        load_config(file)
    assert all("no such file" in str(fault) for fault in raised.value.faults), raised.value


def test_every_decision_is_in_the_index() -> None:
    records = {file.name for file in (DOCS / "decisions").glob("0*.md")}
    assert set(re.findall(r"\((\d{4}-[\w-]+\.md)\)", (DOCS / "decisions/index.md").read_text())) == records


def test_code_names_pages_that_are_there() -> None:
    for file in (TOP / "mqttproxy").rglob("*.py"):
        for page in re.findall(r"docs/[\w/-]+\.md", file.read_text()):
            assert (TOP / page).exists(), f"{file.name}: {page}"
