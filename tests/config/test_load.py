import os
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import LARGEST_FILE, load_config, parse_config
from mqttproxy.config.model import ProxyConfig
from tests.config.documents import BASE, attempt, faults, parse


def fault_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value).removeprefix(f"{path}: ")


def written(folder: Path, data: bytes) -> Path:
    path = folder / "proxy.toml"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\xef\xbb\xbf[proxy]", "line 1, column 1: found a byte order mark, expected UTF-8 without a byte order mark"),
        (b"\xff\xfe[\0", "line 1, column 1: found UTF-16, expected UTF-8 without a byte order mark"),
        (b"[proxy]\nid = '\xe4'", "line 2, column 7: found the byte 0xE4, expected UTF-8"),
        (b"[proxy]\nid =", "line 2, column 5: found text that is not TOML; invalid value"),
        (
            b"[proxy]\nid 5",
            "line 2, column 4: found text that is not TOML; expected '=' after a key in a key/value pair",
        ),
        (b"[proxy]\n[proxy]", "line 2, column 7: found text that is not TOML; cannot declare ('proxy',) twice"),
        (b"a = 1" + b"0" * 5000, "found a number with too many digits, expected TOML"),
        (b"a = " + b"[" * 100_000, "found values nested too deeply, expected TOML"),
        (b"#" * (LARGEST_FILE + 1), "found a very large file, expected at most 16MiB"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_its_place(tmp_path: Path, data: bytes, sentence: str) -> None:
    assert fault_of(written(tmp_path, data)) == sentence


def test_a_byte_order_mark_in_a_text_is_told() -> None:
    assert faults("\ufeff[proxy]") == [
        "line 1, column 1: found a byte order mark, expected UTF-8 without a byte order mark"
    ]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "proxy.toml") == "found no such file, expected a readable file"


def test_a_folder_is_told(tmp_path: Path) -> None:
    assert fault_of(tmp_path) == "found a folder, expected a readable file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, b"")
    path.chmod(0)
    assert fault_of(path) == "found a file that may not be read (permission denied), expected a readable file"


def test_permission_denied_is_told_even_to_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path, b"")
    monkeypatch.setattr(Path, "open", denied)
    assert fault_of(path) == "found a file that may not be read (permission denied), expected a readable file"


def test_any_other_trouble_with_a_file_is_told_in_the_words_of_the_system(tmp_path: Path) -> None:
    path = written(tmp_path, b"")
    assert fault_of(path / "below") == "found not a directory, expected a readable file"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, b"[schemas]\ndirectory = 'contracts'"))
    assert config.schemas.directory == tmp_path / "contracts"
    assert config.proxy.data_dir == tmp_path / "data"


def test_paths_are_absolute_when_the_file_is_named_relatively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, b"")
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("proxy.toml")).proxy.data_dir == tmp_path / "data"


def test_an_absolute_path_stays() -> None:
    assert parse("[proxy]\ndata_dir = '/var/lib/x'").proxy.data_dir == Path("/var/lib/x")


def test_a_file_that_the_configuration_names_is_looked_at(tmp_path: Path) -> None:
    text = b"[[upstreams]]\nname = 'a'\nurl = 'mqtts://h'\nca = 'ca.pem'"
    path = written(tmp_path, text)
    assert fault_of(path) == f'upstreams[0].ca: found "{tmp_path / "ca.pem"}", no such file, expected a readable file'
    (tmp_path / "ca.pem").write_text("x")
    assert load_config(path).upstreams[0].ca == tmp_path / "ca.pem"


def test_G6_no_secret_is_in_a_fault_or_in_a_repr() -> None:
    upstream = '[[upstreams]]\nname = "a"\nurl = "mqtt://h"\nusername = "u"\n'
    config = parse(upstream + "password = 'geheim'")
    assert config.upstreams[0].password == "geheim"
    assert "geheim" not in repr(config)
    for wrong in ("password = ['geheim']", "passwort = 'geheim'", "password = 'geheim\\u0000'".replace("'", '"')):
        with pytest.raises(ConfigError) as caught:
            parse(upstream + wrong)
        assert "geheim" not in str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.one_of(
        TEXTS, st.integers(), st.floats(), st.booleans(), st.datetimes(), st.sampled_from(["10s", "1MiB", "#", "a@1"])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)


def _names(kind: Any) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from([field.name for field in kind.__attrs_attrs__]), TEXTS)


def _documents() -> st.SearchStrategy[dict[str, Any]]:
    """Documents that look like ours in some places."""
    likely: dict[str, st.SearchStrategy[Any]] = {}
    default = ProxyConfig()
    for field in ProxyConfig.__attrs_attrs__:
        value = getattr(default, field.name)
        if isinstance(value, tuple):
            kind = get_args(field.type)[0]
            likely[field.name] = st.one_of(st.lists(st.dictionaries(_names(kind), VALUES), max_size=3), VALUES)
        else:
            likely[field.name] = st.one_of(st.dictionaries(_names(type(value)), VALUES), VALUES)
    return st.builds(
        lambda ours, any_other: any_other | ours,
        st.fixed_dictionaries({}, optional=likely),
        st.dictionaries(TEXTS, VALUES, max_size=2),
    )


@given(_documents())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=50)
def test_any_document_is_a_configuration_or_a_config_error(document: dict[str, Any]) -> None:
    error = attempt(lambda: parse_document(document))
    assert error is None or error.faults
    assert all(str(fault).isprintable() for fault in (error.faults if error else ()))


def parse_document(document: dict[str, Any]) -> ProxyConfig:
    """Parse a document as if it stood in a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomllib.loads", lambda _: document)
        return parse_config("", "proxy.toml", BASE, unreadable=lambda _: "no such file")


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    error = attempt(lambda: parse(text))
    assert error is None or error.faults


@given(st.binary(max_size=100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_configuration_or_a_config_error(tmp_path: Path, data: bytes) -> None:
    error = attempt(lambda: load_config(written(tmp_path, data)))
    assert error is None or error.faults
