"""Opening the index; and beginning a new one from the revocation list, where it is damaged or gone.

Who was revoked must never be forgotten: that is why it stands in two places. If both are lost, nothing is issued.
"""

import datetime as dt
from pathlib import Path
from typing import Final

from cryptography.x509 import Certificate

from mqttproxy import sqlite
from mqttproxy.pki import forms
from mqttproxy.pki.errors import PkiError
from mqttproxy.pki.files import LARGEST_LIST, read_bounded
from mqttproxy.pki.index import DATABASE, Index, Record

LIST: Final = "crl.pem"
LIST_SECONDS: Final = "list_seconds"  # for how long a list is made
LIST_NUMBER: Final = "list_number"  # of the last one


def open_index(directory: Path, ca: Certificate, now: dt.datetime, notes: list[str]) -> Index:
    """Open the index of a CA, or begin a new one, which is told in `notes`.

    Raises:
        PkiError: what was revoked is not known any more.
        sqlite3.Error, OSError: the disk does not let us.

    """
    why = "" if (directory / DATABASE).exists() else "is gone"
    try:
        index = Index.open(directory)
        if not why and index.fact(LIST_SECONDS) is not None:
            return index
        why = why or "was never finished"
    except sqlite.BrokenDatabaseError as error:
        read_list_or_refuse(directory, ca)  # before anything is moved
        why = f"was damaged ({error}) and is set aside in {sqlite.set_aside(directory, (DATABASE,), now.timestamp())}"
        index = Index.open(directory)
    try:
        found = read_list_or_refuse(directory, ca)
        with index.changing():
            for one in found.entries:
                if index.find(one.serial) is None:
                    record = Record(
                        serial=one.serial, what=None, not_after=None, pem="", revoked_at=one.at, reason=one.reason
                    )
                    index.add(record)
            index.keep(LIST_NUMBER, found.number)
            index.keep(LIST_SECONDS, int(found.life.total_seconds()))
    except BaseException:
        index.close()
        raise
    notes.append(
        f"{DATABASE} {why}: a new one begins with the {len(found.entries)} revocations of {LIST}; certificates that "
        "were issued before are not listed any more, and can be revoked by their file"
    )
    return index


def read_own_list(directory: Path, ca: Certificate) -> forms.RevocationList:
    """Return the revocation list in the folder of a CA.

    Raises:
        PkiError: it is not there, damaged, or of another CA.

    """
    return forms.read_list(read_bounded(directory / LIST, LARGEST_LIST), ca)


def read_list_or_refuse(directory: Path, ca: Certificate) -> forms.RevocationList:
    """Return the same, where the index is lost."""
    try:
        return read_own_list(directory, ca)
    except PkiError as error:
        raise PkiError(
            f"{directory}: {DATABASE} is lost, and so is the list of what was revoked ({error}): put back either of "
            "them from a backup, or begin a new CA"
        ) from error
