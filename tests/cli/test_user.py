"""`mqttproxy user`: on files and on databases of both kinds, its words, exit codes, and what it never shows."""

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
from tests.postgresql import PASSWORD, READER, Server, Table

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
        self.table: Table | None = None

    def __call__(self, *arguments: str, typed: str = "correct horse\n") -> int:
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        with pytest.raises(SystemExit) as end:
            user_app([*arguments, "--config", str(self.config)])
        self.out, self.err = self._capture.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code

    def find(self, name: str) -> Any:
        if self.table is not None:
            return self.table.owners.find(name)
        database = UserDatabase(self.folder / "of" / "users.db")
        return database.find(name) if (self.folder / "of").exists() else UserFile(self.folder / "users.toml").find(name)


@pytest.fixture(params=[FILE, DATABASE, None], ids=["file", "database", "postgresql"])
def shell(request: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Shell:
    if request.param is not None:
        return Shell(tmp_path, request.param, capsys, monkeypatch)
    table: Table = request.getfixturevalue("table")
    made = Shell(tmp_path, table.toml(may_write=True), capsys, monkeypatch)
    made.table = table
    return made


def test_a_user_is_added_listed_changed_and_removed(shell: Shell) -> None:
    assert shell("add", "ada", "--attribute", "site=north", "--attribute", "line=7") == 0
    assert shell.out.startswith("added ada")
    assert shell("add", "bob", "--disabled") == 0
    ada = shell.find("ada")
    assert is_right(ada.password, b"correct horse")
    assert ada.attributes == {"site": "north", "line": "7"}
    assert shell("list") == 0
    assert shell.out.splitlines() == ["ada  line=7 site=north", "bob  disabled"]
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


@pytest.mark.parametrize("shell", [FILE, DATABASE], ids=["file", "database"], indirect=True)
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


class TestPostgresql:
    @pytest.fixture
    def shell(
        self, postgresql: Server, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Shell]:
        """Where there is no table yet."""
        table = postgresql.table(is_made=False)
        shell = Shell(tmp_path, table.toml(may_write=True), capsys, monkeypatch)
        shell.table = table
        yield shell
        table.owners.close()

    def test_a_table_is_made_once(self, shell: Shell) -> None:
        assert shell("add", "ada") == 1
        assert "does not exist" in shell.err
        assert shell("prepare") == 0
        assert shell.out == f"made the table {shell.table.name}\n"  # type: ignore[union-attr] # see the fixture
        assert shell("add", "ada") == 0
        assert shell("prepare") == 1
        assert "already exists" in shell.err
        assert shell("list") == 0
        assert shell.out == "ada\n"

    def test_somebody_else_may_make_it_with_what_is_shown(self, shell: Shell, postgresql: Server) -> None:
        assert shell("prepare", "--show") == 0
        assert shell("list") == 1
        shell("prepare", "--show")
        postgresql.execute(shell.out)
        assert shell("add", "ada") == 0
        assert shell.find("ada") is not None

    def test_a_role_that_may_only_read_adds_nobody_and_another_one_may(
        self, table: Table, postgresql: Server, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shell = Shell(tmp_path, table.toml(), capsys, monkeypatch)
        shell.table = table
        assert shell("add", "ada") == 1
        assert "permission denied" in shell.err
        assert PASSWORD not in shell.err
        postgresql.execute(
            f"DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN PASSWORD 'writes';"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table.name} TO clerk"
        )
        monkeypatch.setenv("PGPASSWORD", "writes")
        assert shell("add", "ada", "--role", "clerk") == 0
        assert shell.find("ada") is not None
        assert shell("list") == 0  # by the role of the configuration, whose password stands in its file
        assert shell.out == "ada\n"
        postgresql.execute("DROP OWNED BY clerk; DROP ROLE clerk")

    @pytest.mark.parametrize("settings", [FILE, DATABASE])
    def test_other_places_make_themselves_and_have_no_roles(
        self, settings: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shell = Shell(tmp_path, settings, capsys, monkeypatch)
        assert shell("prepare") == 1
        assert "not in PostgreSQL" in shell.err
        assert shell("list", "--role", READER) == 1
        assert "--role is for users in PostgreSQL" in shell.err

    def test_a_server_that_is_away_is_told(self, shell: Shell) -> None:
        text = shell.config.read_text()
        port = shell.table.server.port  # type: ignore[union-attr] # see the fixture
        shell.config.write_text(text.replace(f":{port}/", ":1/"))
        assert shell("list") == 1
        assert "users in users_" in shell.err
