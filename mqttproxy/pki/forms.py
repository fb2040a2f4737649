"""Certificates, keys and revocation lists, made and read by `cryptography`. Computes; draws keys and serial numbers."""

import datetime as dt
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final, cast

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from mqttproxy.pki.errors import PkiError
from mqttproxy.pki.wanted import Wanted, is_address

PrivateKey = ec.EllipticCurvePrivateKey

BACKDATED: Final = dt.timedelta(minutes=5)  # clocks of devices are not exact
SHORTEST_RSA: Final = 2048  # bits
_USAGES: Final = {
    "device": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
}
Reason = x509.ReasonFlags


@frozen
class RevokedSerial:
    """One entry of a revocation list."""

    serial: int
    at: dt.datetime
    reason: str


@frozen
class RevocationList:
    """What a list says."""

    number: int
    begins: dt.datetime
    life: dt.timedelta
    entries: tuple[RevokedSerial, ...]


@frozen
class Issuer:
    """A CA: its certificate and its key, which is never shown."""

    certificate: x509.Certificate
    key: PrivateKey

    def __repr__(self) -> str:
        """Return its subject."""
        return f"Issuer({self.certificate.subject.rfc4514_string()})"


def new_key() -> PrivateKey:
    """Draw a key: P-256, which small devices can handle."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return a key as PEM, encrypted if there is a passphrase."""
    encryption: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def read_key(pem: bytes, passphrase: bytes | None) -> PrivateKey:
    """Return the key of a CA.

    Raises:
        PkiError: it is none of ours, or the passphrase is wrong or missing.

    """
    try:
        key = load_pem_private_key(pem, passphrase)
    except TypeError:
        found = "is encrypted: give its passphrase" if passphrase is None else "is not encrypted: give no passphrase"
        raise PkiError(f"the key of the CA {found}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise PkiError("the key of the CA cannot be read: wrong passphrase, or damaged") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError("the key of the CA is not of an elliptic curve")
    return key


def make_ca(name: str, key: PrivateKey, now: dt.datetime, life: dt.timedelta) -> x509.Certificate:
    """Return the certificate of a CA, which signs itself and no other CA."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    public = key.public_key()
    return (
        x509.CertificateBuilder(subject, subject, public, x509.random_serial_number(), now - BACKDATED, now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, SHA256())
    )


def make_certificate(
    issuer: Issuer,
    what: Wanted,
    public: CertificatePublicKeyTypes,
    *,
    serial: int,
    now: dt.datetime,
    life: dt.timedelta,
) -> x509.Certificate:
    """Return a certificate of a device or server."""
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, what.name)]
    if what.device_serial is not None:
        attributes.append(x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, what.device_serial))
    ca = issuer.certificate
    builder = (
        x509.CertificateBuilder(ca.subject, x509.Name(attributes), public, serial, now - BACKDATED, now + life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGES[what.kind]]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    names: list[x509.GeneralName] = [
        x509.IPAddress(ip_address(host)) if is_address(host) else x509.DNSName(host) for host in what.hosts
    ]
    if what.mac_urn is not None:
        names.append(x509.UniformResourceIdentifier(what.mac_urn))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer.key, SHA256())


def make_list(
    issuer: Issuer, revoked: Iterable[RevokedSerial], number: int, now: dt.datetime, life: dt.timedelta
) -> bytes:
    """Return a revocation list as PEM."""
    builder = (
        x509.CertificateRevocationListBuilder(issuer.certificate.subject, now - BACKDATED, now + life)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder(one.serial, one.at)
        if one.reason != Reason.unspecified.value:
            entry = entry.add_extension(x509.CRLReason(Reason(one.reason)), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, SHA256()).public_bytes(Encoding.PEM)


def read_list(pem: bytes, ca: x509.Certificate) -> RevocationList:
    """Return what a revocation list of this CA says.

    Raises:
        PkiError: it is none.

    """
    try:
        found = x509.load_pem_x509_crl(pem)
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        is_ours = found.is_signature_valid(cast("ec.EllipticCurvePublicKey", ca.public_key()))
        entries = tuple(RevokedSerial(one.serial_number, one.revocation_date_utc, _reason(one)) for one in found)
        begins, ends = found.last_update_utc + BACKDATED, found.next_update_utc
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise PkiError(f"the revocation list cannot be read: {error}") from error
    if not is_ours or ends is None:
        raise PkiError("the revocation list is not of this CA")
    return RevocationList(number, begins, ends - begins, entries)


def public_key_of(csr: bytes) -> CertificatePublicKeyTypes:
    """Return the key that a signing request is for. Nothing else that it says counts: the CA decides on that.

    Raises:
        PkiError: it cannot be read, was not signed by that key, or the key is too weak.

    """
    try:
        request = x509.load_pem_x509_csr(csr)
        key = request.public_key()
        is_signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError(f"the signing request cannot be read: {error}") from error
    if not is_signed:
        raise PkiError("the signing request was not signed by its own key")
    if isinstance(key, rsa.RSAPublicKey):
        is_strong = key.key_size >= SHORTEST_RSA
    else:
        curves = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
        is_curve = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, curves)
        is_strong = is_curve or isinstance(key, ed25519.Ed25519PublicKey)
    if not is_strong:
        raise PkiError(f"the key of the signing request is none of P-256, P-384, P-521, Ed25519, RSA of {SHORTEST_RSA}")
    return key


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def read_certificate(pem: bytes) -> x509.Certificate:
    """Return the first certificate of a file in PEM.

    Raises:
        PkiError: there is none.

    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise PkiError(f"the certificate cannot be read: {error}") from error


def belongs(issuer_key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Tell whether a certificate is for the public half of a key."""
    return issuer_key.public_key() == certificate.public_key()


def is_half_of(pem: bytes, public: CertificatePublicKeyTypes) -> bool:
    """Tell whether the public half of a key in PEM is this one; not so of what cannot be read, as a key of others."""
    try:
        return load_pem_private_key(pem, None).public_key() == public
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def is_from(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Tell whether a CA has signed a certificate."""
    try:
        certificate.verify_directly_issued_by(ca)
    except Exception:  # noqa: BLE001 - `cryptography` names no common class for what can be wrong with it
        return False
    return True


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except x509.ExtensionNotFound:
        return Reason.unspecified.value
