"""The authenticator that goes by client certificates. That one comes from the right CA, TLS has verified."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Final, TypeVar

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mqttproxy.access.credentials import Allowed, BackEndDownError, Credentials, Denied, Simple
from mqttproxy.config.admitting import CertificateSettings
from mqttproxy.config.attribute_patterns import AttributePattern, parse_pattern
from mqttproxy.config.errors import ConfigError, Fault
from mqttproxy.config.topic_templates import fill_text, parse_text
from mqttproxy.config.users_file import name_fault
from mqttproxy.mqtt.reasons import ReasonCode

T = TypeVar("T")

# The library's errors have no class in common. TypeError: a name of a kind that its attribute cannot have.
_UNREADABLE: Final = (
    ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)  # fmt: skip
_MAC: Final = str.maketrans("", "", ":-.")
_HEX: Final = frozenset("0123456789abcdef")
_KINDS: Final = {"san_dns": x509.DNSName, "san_uri": x509.UniformResourceIdentifier, "san_email": x509.RFC822Name}


@frozen
class _Revoked:
    """The list of one CA: serial numbers, and until when it is fresh (seconds since 1970)."""

    serials: frozenset[int]
    until: float


class ByCertificate(Simple):
    """See the module."""

    def __init__(self, settings: CertificateSettings, *, wall: Callable[[], float] = time.time) -> None:
        """Make it.

        Args:
            settings: its table.
            wall: seconds since 1970.

        Raises:
            ConfigError: a file that they name cannot be used.

        """
        self.settings = settings
        self._wall = wall
        pattern = None if settings.pattern is None else parse_pattern(settings.pattern)
        self._pattern = pattern if isinstance(pattern, AttributePattern) else None
        self._revoked = None if settings.crl is None else dict(_read_lists(settings))

    async def check(self, credentials: Credentials) -> Allowed | Denied | None:
        """Say whom a certificate stands for; without one, a device is not ours."""
        if credentials.certificate is None:
            name = credentials.common_name
            return None if name is None else self._told(name, credentials.client_id)
        try:
            # The library warns of numbers and names that are odd; those that matter are seen here.
            with warnings.catch_warnings(action="ignore"):
                certificate = x509.load_der_x509_certificate(credentials.certificate)
                if (why := self._why_not(certificate)) is not None:
                    return self._denied(why)
                names = self._names(certificate)
        except _UNREADABLE as error:
            return self._denied(f"a certificate that cannot be read: {error}")
        if len(names) != 1:
            return self._denied(f"{len(names)} names of kind {self.settings.identity}, not one")
        return self._known(names[0], certificate, credentials.client_id)

    async def still(self, allowed: Allowed) -> bool:
        """Say whether a certificate was revoked meanwhile."""
        if isinstance(allowed.rests_on, x509.Certificate):
            return self._why_not(allowed.rests_on) is None
        return isinstance(allowed.rests_on, str) and self._why_not_told() is None

    def _told(self, name: str, client_id: str) -> Allowed | Denied:
        """Go by a name alone: a load balancer has verified the certificate, and passed on no more of it."""
        why = self._why_not_told()
        return self._known(name, None, client_id) if why is None else self._denied(why)

    def _why_not_told(self) -> str | None:
        """Return why a name alone is not enough, in words, None: it is."""
        if self.settings.identity != "cn":
            return f"a load balancer told the common name only, where {self.settings.identity} is the name"
        if self._revoked is not None:
            return "a load balancer told the common name only, so that nobody knows whether the certificate was revoked"
        return None

    def _known(self, name: str, certificate: x509.Certificate | None, client_id: str) -> Allowed | Denied:
        """Return who it is, by its name. `certificate`: None, a load balancer told the name only."""
        if name_fault(name):
            return self._denied("a name with characters that no name has, or too long")
        attributes: Mapping[str, str] = {}
        if self._pattern is not None:
            found = self._pattern.read(name)
            if found is None:
                return self._denied(f"the name {name!r} does not look as it must")
            attributes = found
        username: str | None = name
        if self.settings.username is not None:
            text = parse_text(self.settings.username)
            username = None if isinstance(text, str) else fill_text(text, attributes.get, bool)
            if username is None:
                return self._denied("the name does not give what the user name is made of")
        if not _is_bound(self.settings.bound_to, client_id, username or ""):
            return Denied(
                self.settings.name, "the client identifier is another one's", ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
            )
        return Allowed(
            by=self.settings.name,
            username=username,
            attributes=attributes,
            expires_at=inf if certificate is None else certificate.not_valid_after_utc.timestamp(),
            rests_on=name if certificate is None else certificate,
        )

    def _why_not(self, certificate: x509.Certificate) -> str | None:
        """Return why a certificate is not to be accepted, in words, None: it is.

        Raises:
            BackEndDownError: it is not known whether it was revoked.

        """
        now = self._wall()
        if now < certificate.not_valid_before_utc.timestamp():
            return "a certificate that is not valid yet"
        if now >= certificate.not_valid_after_utc.timestamp():
            return "a certificate that has expired"
        try:
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            usage = None
        if usage is not None and not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {
            *usage
        }:
            return "a certificate that is not for clients"
        if self._revoked is None:
            return None
        revoked = self._revoked.get(certificate.issuer.public_bytes())
        if revoked is None:
            return "a certificate of a CA that has no list of revoked ones here"
        if now >= revoked.until:
            raise BackEndDownError("the list of revoked certificates is too old")
        return "a certificate that was revoked" if certificate.serial_number in revoked.serials else None

    def _names(self, certificate: x509.Certificate) -> list[str]:
        kind = _KINDS.get(self.settings.identity)
        if kind is None:
            attributes = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            return [one.value for one in attributes if isinstance(one.value, str)]
        try:
            alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        return [one.value for one in alternative if isinstance(one, kind)]

    def _denied(self, why: str) -> Denied:
        return Denied(self.settings.name, why, ReasonCode.NOT_AUTHORIZED)


def _is_bound(to: str, client_id: str, username: str) -> bool:
    if to == "client_id":
        return client_id == username
    if to == "mac":
        mac = _mac(username)
        return mac is not None and mac == _mac(client_id)
    return True


def _mac(text: str) -> str | None:
    """Return a MAC address as it is compared, or None: it is none."""
    plain = text.translate(_MAC).lower()
    return plain if len(plain) == 12 and _HEX.issuperset(plain) else None


def _read_lists(settings: CertificateSettings) -> Iterator[tuple[bytes, _Revoked]]:
    """Yield issuer and list for each that the file has. Raises ConfigError."""
    assert settings.crl is not None  # noqa: S101 # else there is nothing to read
    key = str(settings.crl)
    if settings.ca is None:
        raise ConfigError([Fault(key, "", "a list of revoked certificates, but no CA", "ca, which has signed it")])
    authorities = _read(settings.ca, x509.load_pem_x509_certificates)
    for crl in _read(settings.crl, _load_lists):
        if not any(crl.issuer == one.subject and _has_signed(one, crl) for one in authorities):
            raise ConfigError([Fault(key, "", "a list that no CA of `ca` has signed", "the CA's own list")])
        until = crl.next_update_utc
        if until is None:
            raise ConfigError([Fault(key, "", "a list that does not say how long it is good", "a next update")])
        yield crl.issuer.public_bytes(), _Revoked(frozenset(one.serial_number for one in crl), until.timestamp())


def _has_signed(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type] # what cannot sign raises
    except (InvalidSignature, TypeError, ValueError):
        return False


def _load_lists(data: bytes) -> list[x509.CertificateRevocationList]:
    end = b"-----END X509 CRL-----"
    parts = [part for part in data.split(end) if b"-----BEGIN X509 CRL-----" in part]
    if not parts:
        raise ValueError("no list in PEM")
    return [x509.load_pem_x509_crl(part + end + b"\n") for part in parts]


def _read(path: Path, load: Callable[[bytes], Iterable[T]]) -> list[T]:
    try:
        return list(load(path.read_bytes()))
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([Fault(str(path), "", f"a file that cannot be used ({words})", "PEM")]) from error
