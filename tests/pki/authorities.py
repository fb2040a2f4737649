"""A CA in a folder, at a time that the test sets."""

import datetime as dt
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mqttproxy.pki.authority import Authority
from mqttproxy.pki.forms import RevocationList, read_list

DAY: Final = dt.timedelta(days=1)
NOW: Final = dt.datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=dt.UTC)
MONTH: Final = 30 * DAY


def begin(folder: Path, passphrase: bytes | None = None) -> Path:
    """Begin a CA of ten years, whose lists are valid for a month."""
    directory = folder / "pki"
    Authority.create(directory, "Acme", now=NOW, life=3650 * DAY, list_life=MONTH, passphrase=passphrase)
    return directory


def read_ca(directory: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())


def the_list(directory: Path) -> RevocationList:
    return read_list((directory / "crl.pem").read_bytes(), read_ca(directory))


def listed(directory: Path) -> set[int]:
    return {one.serial for one in the_list(directory).entries}


def holder(folder: Path) -> x509.Certificate:
    """Return the certificate in a holder's folder, which must be for the key that is there too."""
    certificate = x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())
    if (key := folder / "private_key.pem").exists():
        private = load_pem_private_key(key.read_bytes(), None)
        assert private.public_key() == certificate.public_key()
    return certificate
