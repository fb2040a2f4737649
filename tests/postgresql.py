"""A PostgreSQL server of the tests' own, on a port of loopback: as little durable as it can be, and gone afterwards.

It refuses to run as root: then it runs as `nobody`, in a folder of its own.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from mqttproxy.access.users_postgresql import UserTable
from mqttproxy.config.admitting import PostgresqlSettings
from tests.ports import free_port
from tests.waiting import PATIENCE, wait_until

READER: Final = "reader"  # a role that may read, with this password
PASSWORD: Final = "only reads"


def _program(name: str) -> str:
    """Return where a program is; Debian keeps them where nobody looks."""
    found = shutil.which(name) or next(
        (str(one) for one in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None
    )
    assert found is not None, f"{name} is not installed: sh tests/servers.sh, or apt-get install postgresql"
    return found


class Server:
    """A server with one database. Only `start` and `stop` end and begin anything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.password_file = folder.with_name(f"{folder.name}.password")  # of READER
        self.password_file.write_text(f"{PASSWORD}\n")
        self._tables = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._run_as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._run_as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        command = [_program("initdb"), "-D", str(folder / "data"), "-U", "postgres", "-E", "UTF8", "--locale=C"]
        self._call([*command, "-N", "--auth-local=trust", "--auth-host=scram-sha-256"])

    def _call(self, command: list[str]) -> None:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=PATIENCE, cwd=self.folder, **self._run_as
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        settings = {
            "fsync": "off",
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "shared_buffers": "4MB",
            "max_connections": 20,
        }
        command = [_program("postgres"), "-D", str(self.folder / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._run_as)
        wait_until(self._answers, "PostgreSQL answers")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End it at once, with all its connections."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # a fast shutdown
            self._process.wait(PATIENCE)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it take connections, which the kernel does, and answer nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)  # first: from now on it has no other children
        children = self._children()
        try:
            for pid in children:
                os.kill(pid, signal.SIGSTOP)  # one that has ended is there all the same, until its parent goes on
            yield
        finally:
            for pid in (*children, self._process.pid):
                os.kill(pid, signal.SIGCONT)

    def _children(self) -> list[int]:
        assert self._process is not None
        pid = self._process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def execute(self, statement: str) -> None:
        """Do something as its superuser."""
        with psycopg.connect(host=str(self.folder), port=self.port, user="postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    @property
    def owners_url(self) -> str:
        """Where its superuser comes in without a password."""
        return f"postgresql://postgres@{str(self.folder).replace('/', '%2F')}:{self.port}/postgres"

    def table(self, *, is_made: bool = True) -> "Table":
        """Return a new table of users."""
        self._tables += 1
        table = Table(self, f"users_{self._tables}", self.password_file)
        if is_made:
            table.prepare()
        return table

    def close(self) -> None:
        """End it, and remove all that it has written."""
        self.stop()
        self.password_file.unlink()
        shutil.rmtree(self.folder)


class Table:
    """A table of users: `owners` may write, the settings of `reader` only read, by TCP and with a password."""

    def __init__(self, server: Server, name: str, password_file: Path) -> None:
        self.server, self.name = server, name
        self.owners = UserTable(PostgresqlSettings(url=server.owners_url, table=name))
        url = f"postgresql://{READER}@127.0.0.1:{server.port}/postgres"
        self.reader = PostgresqlSettings(url=url, table=name, password_file=password_file)

    def prepare(self) -> None:
        """Make it, and let the reader read."""
        self.owners.make()
        self.server.execute(f"GRANT SELECT ON {self.name}, {self.name}_changes TO {READER}")

    def toml(self, *, may_write: bool = False, more: str = "") -> str:
        """Return the authenticator of a configuration that reads it, or that may do everything. `more`: settings."""
        reader = self.reader
        head = f'[[access.passwords]]\nname = "users"\n{more}[access.passwords.postgresql]\ntable = "{self.name}"\n'
        if may_write:
            return head + f'url = "{self.server.owners_url}"\n'
        return head + f'url = "{reader.url}"\npassword_file = "{reader.password_file}"\n'


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a server, and end it."""
    server = Server(Path(tempfile.mkdtemp(prefix="mqttproxy-pg-")))  # pytest's own folders are for their owner only
    try:
        server.start()
        server.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'")
        yield server
    finally:
        server.close()
