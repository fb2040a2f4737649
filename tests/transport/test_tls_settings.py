"""What a TLS listener speaks and what it refuses: versions, suites, keys, revocation lists."""

import datetime as dt
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import trio
import trustme
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mqttproxy.config.model import Address, ListenerSettings
from mqttproxy.transport.listen import listen
from mqttproxy.transport.revoked import read_revoked
from mqttproxy.transport.stream import TransportError
from mqttproxy.transport.tls import client_context, server_context

pytestmark = pytest.mark.wire("tls")

NOW = dt.datetime.now(dt.UTC)


@frozen
class Authority:
    """A CA whose key is at hand, in a folder."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str, key: Any = None) -> tuple[Path, x509.Certificate]:
        """Write key and certificate into one file."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        made = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - dt.timedelta(minutes=5))
            .not_valid_after(NOW + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self.key, SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file = self.folder / f"{name}.pem"
        file.write_bytes(private + made.public_bytes(Encoding.PEM))
        return file, made

    def revoke(self, *certificates: x509.Certificate, days: int = 1) -> Path:
        """Write a revocation list."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(NOW - dt.timedelta(days=2)).next_update(NOW + dt.timedelta(days=days))
        for one in certificates:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(NOW)
            builder = builder.add_revoked_certificate(entry.build())
        file = self.folder / "crl.pem"
        file.write_bytes(builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM))
        return file


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(_name("CA"))
        .issuer_name(_name("CA"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - dt.timedelta(minutes=5))
        .not_valid_after(NOW + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    (tmp_path / "ca.pem").write_bytes(made.public_bytes(Encoding.PEM))
    return Authority(tmp_path, key, made)


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """Shake hands in memory; return how the server refuses, or version and suite."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(5):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                if side is ours:
                    return str(error.reason)
                return f"client: {error.reason}"
    suite = ours.cipher()
    assert suite is not None
    return f"{ours.version()} {suite[0]}"


def anyone(
    ca: Path, suites: str = "ALL:COMPLEMENTOFALL:@SECLEVEL=0", certificate: Path | None = None
) -> ssl.SSLContext:
    """Return the context of a client that would speak anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    context.set_ciphers(suites)
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


def suites_of_1_2() -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    for suite in context.get_ciphers():
        if suite["protocol"] != "TLSv1.3":
            yield suite["name"]


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_E3_of_all_suites_of_tls_1_2_only_those_without_weakness_are_spoken(
    authority: Authority, kind: Literal["ec", "rsa"]
) -> None:
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else None
    server = server_context(*[authority.issue("server", key)[0]] * 2)
    spoken = set()
    names = list(suites_of_1_2())
    assert len(names) > 50
    for name in names:
        client = anyone(authority.ca, f"{name}:@SECLEVEL=0")
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        outcome = shake(server, client)
        if outcome.startswith("TLSv1.2 "):
            spoken.add(outcome.split()[1])
        else:
            assert "NO_SHARED_CIPHER" in outcome or "client: " in outcome, (name, outcome)
    kind_of_key = "RSA" if kind == "rsa" else "ECDSA"
    assert spoken == {
        f"ECDHE-{kind_of_key}-AES128-GCM-SHA256",
        f"ECDHE-{kind_of_key}-AES256-GCM-SHA384",
        f"ECDHE-{kind_of_key}-CHACHA20-POLY1305",
    }


@pytest.mark.parametrize(("minimum", "spoken"), [("1.2", "TLSv1.2 ECDHE"), ("1.3", "UNSUPPORTED_PROTOCOL")])
def test_the_oldest_version_can_be_raised(authority: Authority, minimum: Literal["1.2", "1.3"], spoken: str) -> None:
    server = server_context(*[authority.issue("server")[0]] * 2, minimum=minimum)
    client = anyone(authority.ca)
    assert shake(server, client).startswith("TLSv1.3 TLS_AES_256_GCM_SHA384")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake(server, client).startswith(spoken)


def test_E3_a_server_key_that_is_too_short_is_refused_at_once(authority: Authority) -> None:
    file, _ = authority.issue("short", rsa.generate_private_key(65537, 1024))  # noqa: S505 - that is the point
    with pytest.raises(TransportError, match=r"short\.pem: ee key too small"):
        server_context(file, file)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-tls1", "-cipher", "ALL:@SECLEVEL=0"), "alert|no protocols available"),
        (("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "alert|no protocols available"),
        (("-tls1_2", "-cipher", "AES128-SHA:ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"), "handshake failure"),
        (("-tls1_2",), "Cipher is ECDHE-ECDSA-(AES256-GCM|CHACHA20)"),
        (("-tls1_3",), "Cipher is TLS_AES_256_GCM_SHA384"),
    ],
)
async def test_E3_openssl_meets_no_old_version_and_no_weak_suite(
    authority: Authority, arguments: tuple[str, ...], words: str
) -> None:
    file, _ = authority.issue("server")
    listener = await listen(
        ListenerSettings(name="tls", transport="tls", bind=Address("127.0.0.1:0"), certificate=file, private_key=file)
    )
    told: list[str] = []

    async def serve() -> None:
        while True:
            try:
                stream = await listener.handshake(await listener.accept())
            except TransportError:
                continue
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{listener.port}", "-servername", "localhost"]
        with trio.fail_after(20):
            done = await trio.run_process(
                [*command, *arguments], stdin=b"", capture_stdout=True, stderr=subprocess.STDOUT, check=False
            )
        told.append(done.stdout.decode(errors="replace"))
        nursery.cancel_scope.cancel()
    listener.close()
    assert re.search(words, told[0]), told[0]
    assert ("Cipher is (NONE)" in told[0]) is ("Cipher is" not in words)


def with_list(
    authority: Authority, crl: Path, required: Literal["optional", "required"] = "required"
) -> ssl.SSLContext:
    file, _ = authority.issue("server")
    return server_context(file, file, client_ca=authority.ca, client_certificate=required, crl=crl)


@pytest.mark.parametrize("required", ["optional", "required"])
def test_D11_a_revoked_certificate_is_refused_and_another_is_not(
    authority: Authority, required: Literal["optional", "required"]
) -> None:
    good, _ = authority.issue("good")
    bad, revoked = authority.issue("bad")
    server = with_list(authority, authority.revoke(revoked), required)
    assert shake(server, anyone(authority.ca, certificate=good)).startswith("TLSv1.3 ")
    client = anyone(authority.ca, certificate=bad)
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # in TLS 1.3 the client believes it is in before it is refused
    assert "CERTIFICATE_VERIFY_FAILED" in shake(server, client)


def test_D11_a_list_that_has_ended_lets_nobody_in(authority: Authority) -> None:
    good, _ = authority.issue("good")
    server = with_list(authority, authority.revoke(days=-1))
    assert "CERTIFICATE_VERIFY_FAILED" in shake(server, anyone(authority.ca, certificate=good))


def test_D11_a_list_of_another_ca_lets_nobody_in(authority: Authority, tmp_path: Path) -> None:
    good, _ = authority.issue("good")
    file, server_file = authority.folder / "forged.pem", authority.issue("server")[0]
    key = ec.generate_private_key(ec.SECP256R1())
    forged = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    forged = forged.last_update(NOW).next_update(NOW + dt.timedelta(days=1))
    file.write_bytes(forged.sign(key, SHA256()).public_bytes(Encoding.PEM))
    server = server_context(server_file, server_file, client_ca=authority.ca, client_certificate="required", crl=file)
    assert "CERTIFICATE_VERIFY_FAILED" in shake(server, anyone(authority.ca, certificate=good))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing", "crl.pem: no such file or directory"),
        ("junk", "crl.pem: no certificate or crl found"),
        ("a certificate", "crl.pem: no revocation list in PEM"),
        ("both", "crl.pem: holds certificates too"),
    ],
)
def test_a_file_that_is_no_list_is_refused_and_never_trusted(authority: Authority, what: str, words: str) -> None:
    crl = authority.revoke()
    content = crl.read_bytes()
    crl.unlink()
    other = trustme.CA().cert_pem.bytes()
    if what != "missing":
        crl.write_bytes({"junk": b"junk", "a certificate": other, "both": content + other}[what])
    with pytest.raises(TransportError, match=words):
        with_list(authority, crl)


def test_a_list_is_read_for_those_who_are_in_already(authority: Authority) -> None:
    _, good = authority.issue("good")
    _, bad = authority.issue("bad")
    revoked = read_revoked(authority.revoke(bad))
    der = [one.public_bytes(Encoding.DER) for one in (good, bad)]
    assert [revoked.has(one) for one in (*der, b"no certificate")] == [False, True, True]


def test_D11_who_comes_by_a_load_balancer_is_held_against_the_list_as_at_a_handshake(authority: Authority) -> None:
    _, good = authority.issue("good")
    _, bad = authority.issue("bad")
    revoked, now = read_revoked(authority.revoke(bad, days=1)), NOW.timestamp()
    good_der, bad_der = (one.public_bytes(Encoding.DER) for one in (good, bad))
    stranger = x509.load_pem_x509_certificate(trustme.CA().issue_cert("x").cert_chain_pems[0].bytes())
    assert revoked.why_not(good_der, now) is None
    assert revoked.why_not(bad_der, now) == "the certificate was revoked"
    assert revoked.why_not(good_der, now + 86_399.0) is None
    for refused, when, why in (
        (good_der, now + 86_400.0, "has ended"),
        (stranger.public_bytes(Encoding.DER), now, "no revocation list"),
        (b"no certificate", now, "cannot be read"),
        (None, now, "does not pass on"),
    ):
        assert why in (revoked.why_not(refused, when) or "")


def test_of_two_lists_of_a_ca_both_are_held_and_the_newer_ends_later(authority: Authority) -> None:
    (_, first), (_, second) = authority.issue("first"), authority.issue("second")
    old = authority.revoke(first, days=-1).read_bytes()
    file = authority.revoke(second, days=1)
    file.write_bytes(old + file.read_bytes())
    revoked, now = read_revoked(file), NOW.timestamp()
    whys = [revoked.why_not(one.public_bytes(Encoding.DER), now) for one in (first, second)]
    assert whys == ["the certificate was revoked"] * 2


def test_a_serial_of_another_ca_is_not_meant(authority: Authority, tmp_path: Path) -> None:
    _, bad = authority.issue("bad")
    revoked = read_revoked(authority.revoke(bad))
    assert list(revoked.serials) == [authority.certificate.subject.public_bytes()]
    stranger = trustme.CA().issue_cert("x").cert_chain_pems[0].bytes()
    assert not revoked.has(x509.load_pem_x509_certificate(stranger).public_bytes(Encoding.DER))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file or directory"),
        (b"junk", "no revocation list in PEM"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----", "a list that cannot be read"),
    ],
)
def test_a_list_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "crl.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(TransportError, match=words):
        read_revoked(file)


def test_towards_brokers_old_suites_stay_allowed_and_old_versions_do_not() -> None:
    context = client_context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert any("SHA256" in suite["name"] and "GCM" not in suite["name"] for suite in context.get_ciphers())
