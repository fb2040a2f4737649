"""Target `certificates`: any bytes that a load balancer passes on as a client's certificate are judged, never a crash.

TLS has looked at those that come with a connection of our own; these come in a PROXY header, or with a broken CA. Who
is let in has a name that may stand in a log, of the one kind that was asked for.

Input: one byte that chooses the kind of name, then DER.
"""

import warnings
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fuzz.awaiting import finished
from mqttproxy.access.by_certificate import ByCertificate
from mqttproxy.access.credentials import Allowed, Credentials, Denied
from mqttproxy.config.admitting import CertificateSettings
from mqttproxy.config.users_file import name_fault
from mqttproxy.transport.revoked import Revoked

WORDS = (
    b"\x06\x03\x55\x04\x03",
    b"\x06\x03\x55\x1d\x11",
    b"\x06\x03\x55\x1d\x25",
    b"\x0c\x01a",
    b"\x1e\x02\0a",
    b"\x82\x01a",
    b"\x30\x00",
    b"\x30\x80",
    b"\xff\xff",
)
KINDS: Final = ("common_name", "san_dns", "san_uri", "san_email")
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(32))
_nobody: Final = Revoked({}, {})  # a list of no CA
_subjects: Final = [
    ByCertificate(CertificateSettings(name="c", identity=kind), wall=(_START + timedelta(days=1)).timestamp)  # type: ignore[arg-type] # one of the kinds
    for kind in KINDS
]


def made(common: list[str], alternative: list[x509.GeneralName], *, is_client: bool) -> bytes:
    """Return a certificate with these names."""
    with warnings.catch_warnings(action="ignore"):  # some names are odd on purpose
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False) for name in common])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(_KEY.public_key()).serial_number(7)
        .not_valid_before(_START).not_valid_after(_START + timedelta(days=30))
    )  # fmt: skip
    usage = ExtendedKeyUsageOID.CLIENT_AUTH if is_client else ExtendedKeyUsageOID.SERVER_AUTH
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if alternative:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
    return builder.sign(_KEY, None).public_bytes(serialization.Encoding.DER)


_names = st.sampled_from(["ada", "d-1", "é", "a b", " a", "x" * 70])
_alternatives = st.sampled_from(
    [x509.DNSName("a.example"), x509.UniformResourceIdentifier("urn:a"), x509.RFC822Name("a@b.example")]
)
strategy: SearchStrategy[bytes] = st.builds(
    lambda kind, common, alternative, is_client: bytes((kind,)) + made(common, alternative, is_client=is_client),
    st.integers(0, 3),
    st.lists(_names, max_size=2),
    st.lists(_alternatives, max_size=3),
    st.sampled_from([True, True, False]),
)


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: the answer, in words."""
    subject = _subjects[data[0] & 3 if data else 0]
    unread = "a certificate that cannot be read"
    assert (_nobody.why_not(data[1:], 0.0) == unread) <= _nobody.has(data[1:])
    answer = finished(subject.check(Credentials(client_id="d", username=None, password=None, certificate=data[1:])))
    if isinstance(answer, Denied):
        answer.why.encode(errors="backslashreplace")
        return answer.why[:60]
    assert isinstance(answer, Allowed)
    assert answer.username
    assert not name_fault(answer.username)
    assert answer.expires_at > _START.timestamp()
    assert finished(subject.still(answer))
    return "allowed", len(answer.username) > 10
