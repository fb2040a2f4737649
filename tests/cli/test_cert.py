"""`mqttproxy cert`: its words and exit codes."""

import datetime as dt
import json
import sys
from pathlib import Path

import pytest

from mqttproxy.cli import cert
from mqttproxy.cli.commands import app

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)


class Shell:
    """Runs commands in a folder, at a time that can be set."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.now = NOW
        self.out = self.err = ""
        self._capture = capture

    def __call__(self, *arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            app(["cert", *arguments])
        self.out, self.err = self._capture.readouterr()
        assert "PRIVATE" not in self.out + self.err
        assert isinstance(end.value.code, int)
        return end.value.code


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    made = Shell(capsys)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cert, "_now", lambda: made.now)
    return made


def test_from_the_first_certificate_to_its_revocation(shell: Shell) -> None:
    assert shell("init-ca", "Acme devices") == 0
    assert shell.out == "pki/ca.pem: Acme devices, until 2036-02-27\n"
    assert shell("issue", "device-7", "--serial", "SN-7", "--mac", "00:1B:44:11:3A:B7", "--life", "10d", "--json") == 0
    issued = json.loads(shell.out)
    assert (issued["folder"], issued["not_after"]) == ("pki/devices/device-7", "2026-03-11T12:00:00+00:00")
    assert shell("list") == 0
    serial = f"{int(issued['serial'], 16):040x}"
    assert shell.out == f"{serial}  device-7  device  serial SN-7  mac 001b44113ab7  until 2026-03-11 12:00 UTC\n"
    shell.now += dt.timedelta(days=9)
    assert (shell("list", "--expiring", "1h"), shell.out) == (0, "")
    assert (shell("list", "--expiring", "2d"), shell.out.count("\n")) == (0, 1)
    assert shell("renew", "device-7", "--life", "10d") == 0
    assert "renewed" in shell.out
    assert shell("revoke", "device-7", "--reason", "keyCompromise") == 0
    assert shell.out.endswith("2 revoked\n")
    assert (shell("revoke", "device-7"), shell.out) == (0, "revoked already\n")
    assert (shell("list"), shell.out) == (0, "")
    assert shell("list", "--all", "--json") == 0
    assert [one["reason"] for one in json.loads(shell.out)] == ["keyCompromise"] * 2
    assert (shell("crl"), shell.out) == (0, "pki/crl.pem\n")


def test_a_passphrase_is_read_from_a_file(shell: Shell) -> None:
    Path("secret").write_text("correct horse\n")
    assert shell("init-ca", "--passphrase-file", "secret") == 0
    assert shell("issue", "d") == 1
    assert shell.err == "the key of the CA is encrypted: give its passphrase\n"
    assert shell("issue", "d", "--passphrase-file", "secret") == 0
    Path("empty").write_text("\n")
    assert (shell("crl", "--passphrase-file", "empty"), shell.err) == (1, "empty: is empty\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("issue", "d"), 1, "pki: no CA: begin one"),
        (("list",), 1, "pki: no CA: begin one"),
        (("issue", "a/b"), 1, "it may not hold /"),
        (("issue", "d", "--csr", "nothing.pem"), 1, "no CA"),
        (("revoke",), 2, "give a name, a serial number, or --file"),
        (("revoke", "d", "--file", "x"), 2, "give a name, a serial number, or --file"),
    ],
)
def test_what_cannot_be_done_is_told(shell: Shell, arguments: tuple[str, ...], code: int, words: str) -> None:
    assert shell(*arguments) == code
    assert words in shell.err


def test_what_is_used_wrongly_ends_with_2(shell: Shell) -> None:
    assert shell("init-ca", "--life", "long") != 0


def test_a_damaged_index_is_told_on_stderr_and_the_command_goes_on(shell: Shell) -> None:
    assert shell("init-ca") == 0
    Path("pki/index.sqlite3").write_bytes(b"junk" * 5000)
    assert shell("issue", "d", "--json") == 0
    assert "note: index.sqlite3 was damaged" in shell.err
    assert json.loads(shell.out)["name"] == "d"
    Path("pki/index.sqlite3").write_bytes(b"junk" * 5000)
    assert (shell("list", "--all"), shell.out) == (0, "")
    assert "note: index.sqlite3 was damaged" in shell.err


def test_without_the_extra_it_says_what_to_install(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith(("mqttproxy.pki", "cryptography"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert shell("init-ca") == 1
    assert shell.err == "mqttproxy cert needs the extra mqttproxy[pki]: pip install 'mqttproxy[pki]'\n"
