"""The certificates that a revocation list (CRL) names: for those who came in before it named them.

At the handshake OpenSSL looks at the list itself, with its signature and its end.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from mqttproxy.transport.stream import TransportError, words

EXTRA: Final = "needs the extra mqttproxy[pki]: pip install 'mqttproxy[pki]'"
_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


@frozen
class Revoked:
    """Serial numbers that were revoked, by issuer (its name in DER)."""

    serials: Mapping[bytes, frozenset[int]]

    def has(self, der: bytes) -> bool:
        """Tell whether a certificate, in DER, was revoked; one that cannot be read was."""
        from cryptography.x509 import load_der_x509_certificate  # noqa: PLC0415 - an extra

        try:
            certificate = load_der_x509_certificate(der)
            return certificate.serial_number in self.serials.get(certificate.issuer.public_bytes(), ())
        except ValueError:
            return True


def read_revoked(crl: Path) -> Revoked:
    """Read a file of one or more lists in PEM.

    Raises:
        TransportError: it cannot be read, holds no list, or the extra is not installed.

    """
    try:
        from cryptography.x509 import load_pem_x509_crl  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise TransportError(f"CRL {crl}: {EXTRA}") from error
    found: dict[bytes, frozenset[int]] = {}
    try:
        for block in _PEM.findall(crl.read_bytes()):
            one = load_pem_x509_crl(block)
            issuer = one.issuer.public_bytes()
            found[issuer] = found.get(issuer, frozenset()) | {entry.serial_number for entry in one}
    except OSError as error:
        raise TransportError(f"CRL {crl}: {words(error)}") from error
    except ValueError as error:
        raise TransportError(f"CRL {crl}: a list that cannot be read: {error}") from error
    if not found:
        raise TransportError(f"CRL {crl}: no revocation list in PEM")
    return Revoked(found)
