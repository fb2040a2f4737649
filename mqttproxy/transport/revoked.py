"""The certificates that a revocation list (CRL) names, for those whom no handshake of ours holds against it.

That is who came in before it named them, and whose TLS ends at a load balancer. At a handshake OpenSSL looks at the
list itself, with its signature and its end.
"""

import re
import warnings
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Final

from attrs import frozen

from mqttproxy.transport.stream import TransportError, words

EXTRA: Final = "needs the extra mqttproxy[pki]: pip install 'mqttproxy[pki]'"
_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


@frozen
class Revoked:
    """What the lists say, by issuer (its name in DER): serial numbers that were revoked, and when the last list ends.

    `until`: seconds since 1970.
    """

    serials: Mapping[bytes, frozenset[int]]
    until: Mapping[bytes, float]

    def has(self, der: bytes) -> bool:
        """Tell whether a certificate, in DER, was revoked; one that cannot be read was."""
        read = _issuer_and_number(der)
        return read is None or read[1] in self.serials.get(read[0], ())

    def why_not(self, der: bytes | None, now: float) -> str | None:
        """Return in words why whoever shows this certificate, in DER, may not come in; None: it may.

        As at a handshake, not only who is named is refused, but everybody while there is no list that is good.

        Args:
            der: the certificate; somebody else has verified that it is from the right CA. None: it was shown to a load
                balancer that does not pass it on.
            now: seconds since 1970.

        """
        if der is None:
            return "a certificate that the load balancer does not pass on, so that it cannot be looked up"
        read = _issuer_and_number(der)
        if read is None:
            return "a certificate that cannot be read"
        issuer, number = read
        if issuer not in self.serials:
            return "a certificate of a CA that has no revocation list here"
        if now >= self.until[issuer]:
            return "the revocation list of the certificate's CA has ended"
        return "the certificate was revoked" if number in self.serials[issuer] else None


def _issuer_and_number(der: bytes) -> tuple[bytes, int] | None:
    """Return the name of its CA, in DER, and its serial number; None: it cannot be read."""
    from cryptography import x509  # noqa: PLC0415 - an extra

    try:
        with warnings.catch_warnings(action="ignore"):  # of numbers and names that are odd
            certificate = x509.load_der_x509_certificate(der)
            return certificate.issuer.public_bytes(), certificate.serial_number
    except (ValueError, TypeError, x509.InvalidVersion):  # TypeError: a name of a kind that its attribute cannot have
        return None


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
    until: dict[bytes, float] = {}
    try:
        for block in _PEM.findall(crl.read_bytes()):
            one = load_pem_x509_crl(block)
            issuer = one.issuer.public_bytes()
            found[issuer] = found.get(issuer, frozenset()) | {entry.serial_number for entry in one}
            end = inf if one.next_update_utc is None else one.next_update_utc.timestamp()
            until[issuer] = max(until.get(issuer, 0.0), end)
    except OSError as error:
        raise TransportError(f"CRL {crl}: {words(error)}") from error
    except ValueError as error:
        raise TransportError(f"CRL {crl}: a list that cannot be read: {error}") from error
    if not found:
        raise TransportError(f"CRL {crl}: no revocation list in PEM")
    return Revoked(found, until)
