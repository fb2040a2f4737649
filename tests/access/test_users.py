"""Users in a file and in databases: found, changed, private, and no good line lets anybody in (BAD-INPUT D6, G12)."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mqttproxy.access.credentials import BackEndDownError
from mqttproxy.access.users import User, UserDatabase, UserFile, Users
from mqttproxy.access.users_postgresql import UserTable
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.kinds import Labels
from mqttproxy.config.users import UserSettings
from mqttproxy.config.users_file import parse_users, write_users
from tests.access.users_of_tests import CHEAP, user, users_toml

GOOD = CHEAP.hash("secret")
Fill = Callable[..., Users]


@pytest.fixture(params=["file", "database", "postgresql"])
def fill(request: Any, tmp_path: Path) -> Iterator[Fill]:
    """Return what puts users, and no others, where they are kept, and looks there."""
    if request.param == "file":

        def write(*users: User) -> Users:
            (tmp_path / "users.toml").write_text(users_toml(*users))
            return UserFile(tmp_path / "users.toml")

        yield write
        return
    table = request.getfixturevalue("table") if request.param == "postgresql" else None
    writes = UserDatabase(tmp_path / "users.db") if table is None else table.owners
    reads = writes if table is None else UserTable(table.reader)

    def put(*users: User) -> Users:
        writes.put(user("gone"))
        for one in writes.all():
            writes.remove(one.name)
        for one in users:
            writes.put(one)
        return reads

    yield put
    reads.close()


class TestAll:
    def test_users_are_found_by_their_very_names_with_all_that_is_known(self, fill: Fill) -> None:
        ada, bob = user(attributes={"site": "north", "line": "7"}), user("bob", enabled=False)
        odd = user("quo'te ü 🦀 %s")
        users = fill(ada, bob, odd)
        assert [users.find(one.name) for one in (ada, bob)] == [ada, bob]
        assert users.find("Ada") is None

    def test_where_nobody_is_nobody_is_found(self, fill: Fill) -> None:
        assert fill().find("ada") is None
        assert fill().find("") is None

    def test_G9_a_name_is_never_part_of_a_question(self, fill: Fill) -> None:
        users = fill(user())
        for name in ("x' OR '1'='1", "ada\0", "ada'; DROP TABLE users; --", "%s", "%(name)s", "a" * 70_000):
            assert users.find(name) is None
        assert users.find("ada") is not None

    def test_a_change_is_there_and_shows_where_there_is_no_reload(self, fill: Fill) -> None:
        users = fill(user(), user("bob"))
        assert users.stamp() == (before := users.stamp())
        users = fill(changed := user(password="another one"))
        assert users.find("ada") == changed
        assert users.find("bob") is None
        assert users.is_live == (users.stamp() != before)


class TestFile:
    def test_an_empty_file_has_nobody(self, tmp_path: Path) -> None:
        (tmp_path / "users.toml").touch()
        assert UserFile(tmp_path / "users.toml").find("") is None

    @pytest.mark.parametrize(
        "entry",
        [
            'name = "a"',
            'name = "a"\npassword = ""',
            'name = "a"\npassword = "secret"',
            'name = "a"\npassword = "$argon2i$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21l$YWJjZGVmZ2hpamtsbW5vcA"',
            'name = "a"\npassword = "$argon2id$v=19$m=99999999,t=3,p=4$c29tZXNhbHRzb21l$YWJjZGVmZ2hpamtsbW5vcA"',
            f'name = ""\npassword = "{GOOD}"',
            f'name = "a\\nb"\npassword = "{GOOD}"',
            f'name = "a"\npassword = "{GOOD}"\nattributes = {{ site = "+" }}',
            f'name = "a"\npassword = "{GOOD}"\nattributes = {{ site = "a/b" }}',
            f'name = "a"\npassword = "{GOOD}"\nadmin = true',
            f'name = "a"\npassword = "{GOOD}"\n[[users]]\nname = "a"\npassword = "{GOOD}"',
        ],
    )
    def test_D6_an_entry_that_is_no_good_is_a_fault_and_never_shown(self, entry: str) -> None:
        with pytest.raises(ConfigError) as raised:
            parse_users(f"[[users]]\n{entry}\n".encode(), "users.toml")
        assert "argon2id$" not in str(raised.value)
        assert "secret" not in str(raised.value)

    def test_what_is_written_is_read_again(self) -> None:
        users = (
            UserSettings(name='quo"te\\ ü 🦀', password=GOOD, attributes=Labels((("site", 'n"1'),)), enabled=False),
            UserSettings(name="b", password=GOOD),
        )
        assert parse_users(write_users(users).encode(), "users.toml") == users

    def test_a_file_that_cannot_be_read_is_a_fault(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError):
            UserFile(tmp_path / "none.toml")


class TestDatabase:
    @pytest.mark.parametrize("where", ["database", "postgresql"])
    def test_users_are_put_found_and_removed(self, where: str, tmp_path: Path, request: Any) -> None:
        users: Any = UserDatabase(tmp_path / "of" / "users.db")
        if where == "postgresql":
            users = request.getfixturevalue("table").owners
        ada = user(attributes={"site": "north"})
        users.put(ada)
        assert users.find("ada") == ada
        assert users.find("bob") is None
        users.put(user(enabled=False))
        found = users.find("ada")
        assert found is not None
        assert not found.enabled
        assert [one.name for one in users.all()] == ["ada"]
        assert users.remove("ada")
        assert not users.remove("ada")
        assert users.find("ada") is None

    def test_the_folder_of_others_stays_as_it_is(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        UserDatabase(tmp_path / "users.db").put(user())
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
        assert [file.name for file in tmp_path.iterdir()] == ["users.db"]

    def test_G12_its_files_are_private(self, tmp_path: Path) -> None:
        users = UserDatabase(tmp_path / "of" / "users.db")
        users.put(user())
        modes = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "of").iterdir()}
        assert modes == {0o600}

    @pytest.mark.parametrize("content", [None, b"", b"no database at all, but more than a hundred bytes" * 9])
    def test_D6_one_that_is_missing_empty_or_broken_says_so(self, content: bytes | None, tmp_path: Path) -> None:
        file = tmp_path / "users.db"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(BackEndDownError):
            UserDatabase(file).find("ada")
