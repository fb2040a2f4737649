"""`mqttproxy cert init-ca | issue | renew | revoke | list | crl`: certificates of devices and servers."""

import datetime as dt
import json as json_module
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import App, Parameter, Token

from mqttproxy.cli.output import complain, say
from mqttproxy.config.units import DURATION_WORDS, parse_duration
from mqttproxy.pki.errors import PkiError
from mqttproxy.pki.wanted import Wanted, wanted

if TYPE_CHECKING:  # else `cryptography`, which is an extra
    from mqttproxy.pki.authority import Authority, Handed
    from mqttproxy.pki.index import Record

cert_app: Final = App(name="cert", help="Issue, renew and revoke certificates of devices and servers.")

_EXTRA: Final = "needs the extra mqttproxy[pki]: pip install 'mqttproxy[pki]'"
_FOLDER: Final = Path("pki")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _life(_type: object, tokens: Sequence[Token]) -> dt.timedelta:
    seconds = parse_duration(tokens[0].value)
    if not seconds:
        raise ValueError(f"{tokens[0].value!r} is not {DURATION_WORDS}")
    return dt.timedelta(seconds=seconds)


Life = Annotated[dt.timedelta, Parameter(converter=_life)]
Directory = Annotated[Path, Parameter(name="--directory")]
Reason = Literal[
    "unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation", "privilegeWithdrawn"
]


@cert_app.command(name="init-ca")
def init_ca(
    name: str = "mqttproxy CA",
    /,
    *,
    directory: Directory = _FOLDER,
    life: Life = dt.timedelta(days=3650),
    crl_life: Life = dt.timedelta(days=30),
    passphrase_file: Path | None = None,
) -> int:
    """Begin a certificate authority: its key, its certificate, and an empty revocation list.

    Args:
        name: of the authority, in its certificate.
        directory: the folder for it, and for nothing else; it becomes private.
        life: how long its certificate is valid, such as 3650d.
        crl_life: how long each revocation list is valid: listeners refuse all client certificates when it has ended.
        passphrase_file: a file with a text that its key is encrypted with.

    """
    with _told():
        from mqttproxy.pki.authority import CERTIFICATE, Authority  # noqa: PLC0415 - an extra

        passphrase = _passphrase(passphrase_file)
        Authority.create(directory, name, now=_now(), life=life, list_life=crl_life, passphrase=passphrase)
        say(f"{directory / CERTIFICATE}: {name}, until {_now() + life:%Y-%m-%d}")
        return 0
    return 1


@cert_app.command(name="issue")
def issue(
    name: str,
    /,
    *,
    kind: Literal["device", "server"] = "device",
    host: tuple[str, ...] = (),
    serial: str | None = None,
    mac: str | None = None,
    life: Life = dt.timedelta(days=30),
    csr: Path | None = None,
    out: Path | None = None,
    directory: Directory = _FOLDER,
    passphrase_file: Path | None = None,
    json: bool = False,
) -> int:
    """Issue a certificate, with a new key or for a signing request, into a folder of its own.

    The folder has certificate.pem, ca.pem and, unless a signing request was given, private_key.pem.

    Args:
        name: its common name: of a device the client identifier or user name, of a server the host name.
        kind: what it may be used for.
        host: DNS name or IP address of a server, if not its name; may be given many times.
        serial: serial number of the device that it is bound to.
        mac: MAC address of the device that it is bound to.
        life: how long it is valid, such as 30d or 12h.
        csr: a signing request in PEM; only its key counts.
        out: where the folder is made; by default `devices` or `servers` in the folder of the authority.
        directory: the folder of the authority.
        passphrase_file: a file with the text that the key of the authority is encrypted with.
        json: for programs.

    """
    with _told():
        what = wanted(name, kind, hosts=host, device_serial=serial, mac=mac)
        with _authority(directory, passphrase_file) as authority:
            handed = authority.issue(what, now=_now(), life=life, out=out, csr=None if csr is None else _read(csr))
        return _tell_handed("issued", handed, json_wanted=json)
    return 1


@cert_app.command(name="renew")
def renew(
    which: str,
    /,
    *,
    life: Life = dt.timedelta(days=30),
    csr: Path | None = None,
    out: Path | None = None,
    directory: Directory = _FOLDER,
    passphrase_file: Path | None = None,
    json: bool = False,
) -> int:
    """Issue a certificate that says the same as one before, for the same key. That one stays valid until it ends.

    Args:
        which: name or serial number of the certificate.
        life: how long the new one is valid, from now.
        csr: a signing request in PEM, for another key.
        out: where the folder with its name is; by default `devices` or `servers` in the folder of the authority.
        directory: the folder of the authority.
        passphrase_file: a file with the text that the key of the authority is encrypted with.
        json: for programs.

    """
    with _told():
        with _authority(directory, passphrase_file) as authority:
            handed = authority.renew(which, now=_now(), life=life, out=out, csr=None if csr is None else _read(csr))
        return _tell_handed("renewed", handed, json_wanted=json)
    return 1


@cert_app.command(name="revoke")
def revoke(
    which: str | None = None,
    /,
    *,
    file: Path | None = None,
    reason: Reason = "unspecified",
    directory: Directory = _FOLDER,
    passphrase_file: Path | None = None,
    json: bool = False,
) -> int:
    """Revoke a certificate, or all of a name, and write the revocation list. A reload of the proxy puts it in force.

    Args:
        which: name or serial number.
        file: the certificate in PEM, instead.
        reason: written into the list.
        directory: the folder of the authority.
        passphrase_file: a file with the text that the key of the authority is encrypted with.
        json: for programs.

    """
    if (which is None) is (file is None):
        complain("give a name, a serial number, or --file")
        return 2
    with _told():
        with _authority(directory, passphrase_file) as authority:
            pem = None if file is None else _read(file)
            revoked = authority.revoke(which, now=_now(), reason=reason, certificate=pem)
        if json:
            say(json_module.dumps([_as_json(one) for one in revoked], indent=2))
        else:
            for one in revoked:
                say(f"revoked {one.serial:x}{_called(one.what)}")
            say(f"{len(revoked)} revoked" if revoked else "revoked already")
        return 0
    return 1


@cert_app.command(name="list")
def list_(
    *,
    directory: Directory = _FOLDER,
    all: bool = False,  # noqa: A002 - the option is called so
    expiring: Annotated[dt.timedelta | None, Parameter(converter=_life)] = None,
    json: bool = False,
) -> int:
    """List the certificates that are valid, with what they are bound to. It does not need the key of the authority.

    Args:
        directory: the folder of the authority.
        all: those too that have ended or were revoked.
        expiring: only those that end within this time, such as 14d.
        json: for programs.

    """
    with _told():
        from mqttproxy.pki.authority import all_records  # noqa: PLC0415 - an extra

        now = _now()
        records, notes = all_records(directory, now=now)
        _tell_notes(notes)
        shown = [
            one
            for one in records
            if (all or one.is_valid(now))
            and (expiring is None or (one.not_after is not None and now < one.not_after <= now + expiring))
        ]
        if json:
            say(json_module.dumps([_as_json(one) for one in shown], indent=2))
        else:
            for one in shown:
                say(_line(one, now))
        return 0
    return 1


@cert_app.command(name="crl")
def crl(*, directory: Directory = _FOLDER, passphrase_file: Path | None = None) -> int:
    """Write the revocation list anew, valid from now on. To be done more often than it ends, as by a timer.

    Args:
        directory: the folder of the authority.
        passphrase_file: a file with the text that the key of the authority is encrypted with.

    """
    with _told():
        with _authority(directory, passphrase_file) as authority:
            say(str(authority.write_list(_now())))
        return 0
    return 1


@contextmanager
def _told() -> Iterator[None]:
    """Tell why something cannot be done; the command then ends with 1."""
    try:
        yield
    except PkiError as error:
        complain(str(error))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "cryptography":
            raise
        complain(f"mqttproxy cert {_EXTRA}")


@contextmanager
def _authority(directory: Path, passphrase_file: Path | None) -> "Iterator[Authority]":
    from mqttproxy.pki.authority import Authority  # noqa: PLC0415 - an extra

    with Authority.open(directory, now=_now(), passphrase=_passphrase(passphrase_file)) as authority:
        _tell_notes(authority.notes)
        yield authority


def _tell_notes(notes: Sequence[str]) -> None:
    for note in notes:
        complain(f"note: {note}")


def _passphrase(file: Path | None) -> bytes | None:
    if file is None:
        return None
    if not (text := _read(file).rstrip(b"\r\n")):
        raise PkiError(f"{file}: is empty")
    return text


def _read(path: Path) -> bytes:
    from mqttproxy.pki.files import read_bounded  # noqa: PLC0415 - only when there is a file

    return read_bounded(path)


def _tell_handed(done: str, handed: "Handed", *, json_wanted: bool) -> int:
    if json_wanted:
        say(json_module.dumps({**_as_json(handed.record), "folder": str(handed.folder)}, indent=2))
    else:
        record = handed.record
        say(f"{handed.folder}: {done} {record.serial:x}{_called(record.what)}, until {_day(record.not_after)}")
    return 0


def _called(what: Wanted | None) -> str:
    return "" if what is None else f" {what.name}"


def _day(time: dt.datetime | None) -> str:
    return "an unknown day" if time is None else f"{time:%Y-%m-%d %H:%M} UTC"


def _line(one: "Record", now: dt.datetime) -> str:
    what = one.what
    if what is None:
        words = ["(known from the revocation list only)"]
    else:
        bound = (("serial", what.device_serial), ("mac", what.mac), ("hosts", ", ".join(what.hosts) or None))
        words = [what.name, what.kind, *(f"{name} {value}" for name, value in bound if value is not None)]
    if one.revoked_at is not None:
        words.append(f"revoked {_day(one.revoked_at)} ({one.reason})")
    else:
        words.append(f"until {_day(one.not_after)}" if one.is_valid(now) else f"ended {_day(one.not_after)}")
    return "  ".join((f"{one.serial:040x}", *words))


def _as_json(one: "Record") -> dict[str, Any]:
    what = one.what
    return {
        "serial": f"{one.serial:x}",
        "name": None if what is None else what.name,
        "kind": None if what is None else what.kind,
        "hosts": [] if what is None else list(what.hosts),
        "device_serial": None if what is None else what.device_serial,
        "mac": None if what is None else what.mac,
        "not_after": None if one.not_after is None else one.not_after.isoformat(),
        "replaces": None if one.replaces is None else f"{one.replaces:x}",
        "revoked_at": None if one.revoked_at is None else one.revoked_at.isoformat(),
        "reason": one.reason or None,
    }
