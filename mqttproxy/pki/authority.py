"""The certificate authority in its folder: everything that commands do with it.

    ca.pem          its certificate: what devices and listeners trust; written last, so it is there when all else is
    ca.key          its key, mode 0600, encrypted if there is a passphrase
    crl.pem         the revocation list, for listeners
    index.sqlite3   which certificates there are

Each step is committed to the index before a file shows it, so that a kill in between leaves at most a certificate that
nobody has got, or a list that does not tell the newest yet: whoever opens the authority next writes it.
"""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import hexdigits
from typing import Final

from attrs import define, evolve, frozen
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509 import Certificate, random_serial_number

from mqttproxy.pki import forms
from mqttproxy.pki.errors import PkiError
from mqttproxy.pki.files import (
    PUBLIC,
    disk,
    read_bounded,
    refuse_if_open_to_others,
    write_folder,
)
from mqttproxy.pki.index import Index, Record
from mqttproxy.pki.salvage import LIST, LIST_NUMBER, LIST_SECONDS, open_index, read_own_list
from mqttproxy.pki.wanted import Wanted, wanted
from mqttproxy.wholefile import PRIVATE, write_whole

CERTIFICATE: Final = "ca.pem"
KEY: Final = "ca.key"

# What a holder gets, in a folder of its own.
HOLDER_CERTIFICATE: Final = "certificate.pem"
HOLDER_KEY: Final = "private_key.pem"
HOLDER_CA: Final = "ca.pem"
FOLDERS: Final = {"device": "devices", "server": "servers"}  # where those folders are made, unless told otherwise

LONGEST_LIFE: Final = dt.timedelta(days=36_500)
REASONS: Final = tuple(
    reason.value for reason in forms.Reason if reason.value not in ("removeFromCRL", "certificateHold")
)


@frozen
class Handed:
    """A certificate that was issued or renewed, and the folder that holds it."""

    record: Record
    folder: Path


@define(eq=False)
class Authority:
    """An open CA. `notes`: what a person should know of how it was found."""

    directory: Path
    issuer: forms.Issuer
    index: Index
    notes: list[str]

    # Opening.

    @classmethod
    def create(
        cls,
        directory: Path,
        name: str,
        *,
        now: dt.datetime,
        life: dt.timedelta,
        list_life: dt.timedelta,
        passphrase: bytes | None = None,
    ) -> None:
        """Begin a CA in a folder, which may hold what one that was interrupted has left.

        Raises:
            PkiError: there is one already, or it cannot be written.

        """
        name = wanted(name).name
        for one in (life, list_life):
            _check_life(one)
        now = now.replace(microsecond=0)
        with disk(directory):
            index = Index.open(directory)
            try:
                with index.changing():
                    if (directory / CERTIFICATE).exists():
                        raise PkiError(f"{directory}: there is a CA already")
                    key = forms.new_key()
                    issuer = forms.Issuer(forms.make_ca(name, key, now, life), key)
                    index.keep(LIST_SECONDS, int(list_life.total_seconds()))
                    index.keep(LIST_NUMBER, 1)
                    write_whole(directory / KEY, forms.private_pem(key, passphrase), PRIVATE)
                    write_whole(directory / LIST, forms.make_list(issuer, (), 1, now, list_life), PUBLIC)
                    write_whole(directory / CERTIFICATE, forms.certificate_pem(issuer.certificate), PUBLIC)
            finally:
                index.close()

    @classmethod
    @contextmanager
    def open(cls, directory: Path, *, now: dt.datetime, passphrase: bytes | None = None) -> "Iterator[Authority]":
        """Open a CA to do something with it, and close it again.

        A damaged index is set aside, and a new one begun with what the revocation list says; that is a note.

        Raises:
            PkiError: there is none, or it cannot be used.

        """
        ca = read_ca(directory)
        refuse_if_open_to_others(directory / KEY)
        key = forms.read_key(read_bounded(directory / KEY), passphrase)
        if not forms.belongs(key, ca):
            raise PkiError(f"{directory}: {KEY} is not the key of {CERTIFICATE}")
        if ca.not_valid_after_utc <= now:
            raise PkiError(f"{directory}: the CA has ended on {ca.not_valid_after_utc:%Y-%m-%d}")
        notes: list[str] = []
        with disk(directory):
            index = open_index(directory, ca, now, notes)
            try:
                authority = cls(directory, forms.Issuer(ca, key), index, notes)
                authority._catch_up(now)
                yield authority
            finally:
                index.close()

    # What it does.

    def issue(
        self, what: Wanted, *, now: dt.datetime, life: dt.timedelta, out: Path | None = None, csr: bytes | None = None
    ) -> Handed:
        """Issue a certificate, for the key of a signing request or for a new one, into a folder of its own.

        Args:
            what: it is to say.
            now: the time of day.
            life: how long it is valid.
            out: where a folder with the holder's name is made; None: in that of the authority, see `FOLDERS`.
            csr: the signing request in PEM; without it, the folder gets a new key too.

        Raises:
            PkiError: it may not be: the folder is there, another holder has what it is bound to, the CA ends before.

        """
        out = out or self.directory / FOLDERS[what.kind]
        folder = out / what.name
        public, private = self._key_for(csr)
        with disk(out), self.index.changing():
            if folder.exists():
                raise PkiError(f"{folder} is there already: renew it, or move it away")
            for other in self.index.bound(what):
                if other.is_valid(now) and other.what is not None and other.what.name != what.name:
                    bound = f"certificate {other.serial:x} of {other.what.name!r}"
                    raise PkiError(f"{bound} is bound to the same device: revoke it first")
            record = self._make(what, public, now, life)
        files = {HOLDER_CERTIFICATE: (record.pem.encode(), PUBLIC), HOLDER_CA: (self._ca_pem(), PUBLIC)}
        if private is not None:
            files[HOLDER_KEY] = (private, PRIVATE)
        with disk(out, f"certificate {record.serial:x} was issued, but nobody has got it"):
            write_folder(folder, files)
        return Handed(record, folder)

    def renew(
        self, which: str, *, now: dt.datetime, life: dt.timedelta, out: Path | None = None, csr: bytes | None = None
    ) -> Handed:
        """Issue a certificate that says the same as another one, for the same key or that of a signing request.

        The old one stays valid until it ends, so that its holder can take the new one whenever it comes.

        Raises:
            PkiError: there is no such certificate, it was revoked, or the folder has another key than it is for.

        """
        with disk(self.directory), self.index.changing():
            old = self._one(which)
            if old.what is None or old.revoked_at is not None:
                raise PkiError(f"certificate {old.serial:x} was revoked: issue a new one")
            out = out or self.directory / FOLDERS[old.what.kind]
            folder = out / old.what.name
            public = _public_key(old) if csr is None else forms.public_key_of(csr)
            if (key := folder / HOLDER_KEY).exists() and not forms.is_half_of(read_bounded(key), public):
                raise PkiError(f"{key} is another key: name another folder by --out")
            record = self._make(old.what, public, now, life, replaces=old.serial)
        with disk(out, f"certificate {record.serial:x} was issued, but nobody has got it"):
            if folder.is_dir():
                write_whole(folder / HOLDER_CERTIFICATE, record.pem.encode(), PUBLIC)
            else:
                files = {HOLDER_CERTIFICATE: (record.pem.encode(), PUBLIC), HOLDER_CA: (self._ca_pem(), PUBLIC)}
                write_folder(folder, files)
        return Handed(record, folder)

    def revoke(
        self, which: str | None, *, now: dt.datetime, reason: str, certificate: bytes | None = None
    ) -> list[Record]:
        """Revoke a certificate, or all that are valid of a name, and write the list.

        Args:
            which: serial number or name; None: that of `certificate`.
            now: the time of day.
            reason: one of `REASONS`.
            certificate: in PEM; it need not be in the index, but must be of this CA.

        Returns:
            those that are revoked by it; none: all of them were already.

        Raises:
            PkiError: there is none.

        """
        now = now.replace(microsecond=0)
        with disk(self.directory), self.index.changing():
            found = self._of_file(certificate) if which is None else self._some(which)
            changed = [one for one in found if one.revoked_at is None]
            for one in changed:
                self.index.revoke(one.serial, now, reason)
        try:
            self.write_list(now)
        except PkiError as error:
            raise PkiError(f"{error}; it is revoked, but {LIST} does not say so yet: `mqttproxy cert crl`") from error
        return [evolve(one, revoked_at=now, reason=reason) for one in changed]

    def write_list(self, now: dt.datetime) -> Path:
        """Write the revocation list anew, valid from now on, and return where it is."""
        now = now.replace(microsecond=0)
        path = self.directory / LIST
        with disk(self.directory), self.index.changing():  # within: a list of fewer entries must not come later
            number = max(self.index.fact(LIST_NUMBER) or 0, self._number_of_list()) + 1
            life = dt.timedelta(seconds=self.index.fact(LIST_SECONDS) or 0)
            self.index.keep(LIST_NUMBER, number)
            write_whole(path, forms.make_list(self.issuer, self.index.revoked(now), number, now, life), PUBLIC)
        return path

    # How.

    def _number_of_list(self) -> int:
        """Return the number of the list that is there: one who was killed may have written it, and not the index."""
        try:
            return read_own_list(self.directory, self.issuer.certificate).number
        except PkiError:
            return 0

    def _ca_pem(self) -> bytes:
        return forms.certificate_pem(self.issuer.certificate)

    def _key_for(self, csr: bytes | None) -> tuple[CertificatePublicKeyTypes, bytes | None]:
        if csr is not None:
            return forms.public_key_of(csr), None
        key = forms.new_key()
        return key.public_key(), forms.private_pem(key)

    def _make(
        self,
        what: Wanted,
        public: CertificatePublicKeyTypes,
        now: dt.datetime,
        life: dt.timedelta,
        *,
        replaces: int | None = None,
    ) -> Record:
        _check_life(life)
        now = now.replace(microsecond=0)
        if now + life > (end := self.issuer.certificate.not_valid_after_utc):
            raise PkiError(f"it would outlive the CA, which ends on {end:%Y-%m-%d %H:%M} UTC: ask for a shorter life")
        serial = random_serial_number()
        made = forms.make_certificate(self.issuer, what, public, serial=serial, now=now, life=life)
        pem = forms.certificate_pem(made).decode()
        record = Record(serial=serial, what=what, not_after=now + life, pem=pem, replaces=replaces)
        self.index.add(record)
        return record

    def _some(self, which: str) -> list[Record]:
        """Return the certificate with this serial number, or those with this name, the one that lasts longest first."""
        if (serial := serial_of(which)) is not None and (found := self.index.find(serial)) is not None:
            return [found]
        if not (named := self.index.named(which)):
            raise PkiError(f"no certificate has the serial number or name {which[:80]!r}")
        return named

    def _one(self, which: str) -> Record:
        found = self._some(which)
        return next((one for one in found if one.revoked_at is None), found[0])

    def _of_file(self, pem: bytes | None) -> list[Record]:
        certificate = forms.read_certificate(pem or b"")
        if not forms.is_from(self.issuer.certificate, certificate):
            raise PkiError("the certificate is not of this CA")
        serial = certificate.serial_number
        if self.index.find(serial) is None:  # the index was lost once
            end = certificate.not_valid_after_utc
            self.index.add(
                Record(serial=serial, what=None, not_after=end, pem=forms.certificate_pem(certificate).decode())
            )
        return [one for one in (self.index.find(serial),) if one is not None]

    def _catch_up(self, now: dt.datetime) -> None:
        """Write the list if one who was killed did not, if it is damaged, or if half of its time is over."""
        why = ""
        try:
            found = read_own_list(self.directory, self.issuer.certificate)
        except PkiError as error:
            why = str(error)
        else:
            if {one.serial for one in self.index.revoked(now)} - {one.serial for one in found.entries}:
                why = "it did not have all that was revoked"
            elif found.begins + found.life / 2 < now:
                self.write_list(now)
        if why:
            self.notes.append(f"{LIST} is written anew: {why}")
            self.write_list(now)


def read_ca(directory: Path) -> Certificate:
    """Return the certificate of the CA in a folder.

    Raises:
        PkiError: there is none.

    """
    if not (directory / CERTIFICATE).exists():
        raise PkiError(f"{directory}: no CA: begin one with `mqttproxy cert init-ca`")
    return forms.read_certificate(read_bounded(directory / CERTIFICATE))


def serial_of(text: str) -> int | None:
    """Return the number that is written in hexadecimal digits, with colons or without; None: it is none."""
    digits = text.replace(":", "")
    return int(digits, 16) if 0 < len(digits) <= 40 and set(digits) <= set(hexdigits) else None


def _check_life(life: dt.timedelta) -> None:
    if not dt.timedelta() < life <= LONGEST_LIFE:
        raise PkiError("a life must be more than nothing and at most 36,500 days")


def _public_key(record: Record) -> CertificatePublicKeyTypes:
    key: CertificatePublicKeyTypes = forms.read_certificate(record.pem.encode()).public_key()
    return key


def all_records(directory: Path, *, now: dt.datetime) -> tuple[list[Record], list[str]]:
    """Return all certificates, and notes as of an `Authority`, without the key of the CA: for those who only look."""
    ca, notes = read_ca(directory), list[str]()
    with disk(directory):
        index = open_index(directory, ca, now, notes)
        try:
            return list(index.all()), notes
        finally:
            index.close()
