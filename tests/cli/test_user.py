"""`mqttproxy user`: on files and on databases, its words, exit codes, and what it never shows."""

import io
import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqttproxy.access.hashing import is_right
from mqttproxy.access.users import UserDatabase, UserFile
from mqttproxy.cli.user import user_app
from tests.access.users_of_tests import cheap_hashes

FILE = '[[access.passwords]]\nname = "users"\nfile = "users.toml"\n'
DATABASE = '[[access.passwords]]\nname = "users"\ndatabase = "of/users.db"\n'


@pytest.fixture(autouse=True)
def _cheap() -> Iterator[None]:
    with cheap_hashes():
        yield


class Shell:
    def __init__(self, folder: Path, settings: str, capture: Any, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._capture, self._patch = folder, capture, patch
        (folder / "users.toml").touch()
        self.config = folder / "proxy.toml"
        self.config.write_text(settings)
        self.out = self.err = ""

    def __call__(self, *arguments: str, typed: str = "correct horse\n") -> int:
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        with pytest.raises(SystemExit) as end:
            user_app([*arguments, "--config", str(self.config)])
        self.out, self.err = self._capture.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code

    def find(self, name: str) -> Any:
        database = UserDatabase(self.folder / "of" / "users.db")
        return database.find(name) if (self.folder / "of").exists() else UserFile(self.folder / "users.toml").find(name)


@pytest.fixture(params=[FILE, DATABASE], ids=["file", "database"])
def shell(request: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, request.param, capsys, monkeypatch)


def test_a_user_is_added_listed_changed_and_removed(shell: Shell) -> None:
    assert shell("add", "ada", "--attribute", "site=north", "--attribute", "line=7") == 0
    assert shell.out.startswith("added ada")
    assert shell("add", "bob", "--disabled") == 0
    ada = shell.find("ada")
    assert is_right(ada.password, b"correct horse")
    assert ada.attributes == {"site": "north", "line": "7"}
    assert shell("list") == 0
    assert shell.out.splitlines() == ["ada  site=north line=7", "bob  disabled"]
    assert shell("list", "--json") == 0
    assert json.loads(shell.out.splitlines()[1]) == {"name": "bob", "enabled": False, "attributes": {}}
    assert shell("passwd", "ada", typed="another horse\n") == 0
    assert is_right(shell.find("ada").password, b"another horse")
    assert shell.find("ada").attributes == {"site": "north", "line": "7"}
    assert shell("remove", "ada") == 0
    assert shell.find("ada") is None
    assert shell("list") == 0
    assert shell.out == "bob  disabled\n"


def test_no_password_is_ever_shown_or_kept_as_it_is(shell: Shell) -> None:
    shell("add", "ada")
    said = shell.out + shell.err
    shell("list", "--json")
    assert "correct horse" not in said + shell.out
    assert "argon2" not in said + shell.out
    for file in shell.folder.rglob("*"):
        assert file.is_dir() or b"correct horse" not in file.read_bytes()


def test_G12_what_it_writes_is_private(shell: Shell) -> None:
    shell("add", "ada")
    written = list(shell.folder.rglob("users.*"))
    assert {stat.S_IMODE(file.stat().st_mode) for file in written if file.stat().st_size} == {0o600}


def test_what_cannot_be_done_is_told(shell: Shell) -> None:
    shell("add", "ada")
    assert shell("add", "ada") == 1
    assert "there is a user 'ada' already" in shell.err
    assert shell("passwd", "bob") == 1
    assert "there is no user 'bob'" in shell.err
    assert shell("remove", "bob") == 1
    assert shell("add", "carl", typed="short\n") == 1
    assert "at least 8 bytes" in shell.err
    assert shell.find("carl") is None
    assert shell("add", "bad\nname") == 1
    assert shell("add", "carl", "--attribute", "site=+") != 0


def test_a_password_may_come_from_a_file(shell: Shell) -> None:
    (shell.folder / "secret").write_text("from a file\n")
    assert shell("add", "ada", "--password-file", str(shell.folder / "secret"), typed="") == 0
    assert is_right(shell.find("ada").password, b"from a file")


def test_which_users_must_be_clear(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    none = Shell(tmp_path, "", capsys, monkeypatch)
    assert none("list") == 1
    assert "has no [[access.passwords]]" in none.err
    two = Shell(tmp_path, FILE + DATABASE.replace('"users"', '"others"'), capsys, monkeypatch)
    assert two("list") == 1
    assert "--authenticator: users, others" in two.err
    assert two("add", "ada", "--authenticator", "others") == 0
    assert two("list", "--authenticator", "others") == 0
    assert two.out == "ada\n"


def test_a_database_that_is_not_there_yet_has_no_users_to_list(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(tmp_path, DATABASE, capsys, monkeypatch)
    assert shell("list") == 1
    assert "users.db" in shell.err
