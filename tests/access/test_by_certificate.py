"""Certificates: whom they stand for, and every trick of BAD-INPUT D11 that TLS itself does not stop."""

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mqttproxy.access.by_certificate import ByCertificate
from mqttproxy.access.credentials import Allowed, BackEndDownError, Credentials, Denied
from mqttproxy.config.admitting import CertificateSettings
from mqttproxy.config.errors import ConfigError
from mqttproxy.mqtt.reasons import ReasonCode
from mqttproxy.transport.revoked import Revoked

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=10)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)


class Authority:
    """A CA of the tests."""

    def __init__(self, name: str = "CA", start: datetime = START) -> None:
        self.start = start
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._builder(self.name, self.key.public_key())
        self.certificate = self._signed(
            own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )

    def _builder(self, subject: x509.Name, key: Any, serial: int = 1) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key).serial_number(serial)
            .not_valid_before(self.start).not_valid_after(self.start + timedelta(days=30))
        )  # fmt: skip

    def _signed(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        return builder.sign(self.key, hashes.SHA256())

    def issue(
        self,
        *names: str,
        usages: Sequence[Any] | None = CLIENT,
        alternative: Sequence[x509.GeneralName] = (),
        serial: int = 7,
    ) -> bytes:
        """Return a certificate in DER with these common names."""
        with warnings.catch_warnings(action="ignore"):  # some names are odd on purpose
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False) for name in names])
        builder = self._builder(subject, self.key.public_key(), serial)
        if usages is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
        if alternative:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(alternative)), critical=False)
        return self._signed(builder).public_bytes(serialization.Encoding.DER)

    def revoke(self, *serials: int, until: datetime | None = START + timedelta(days=20)) -> bytes:
        """Return a list of revoked certificates in PEM."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(self.start)
        if until is not None:
            builder = builder.next_update(until)
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(self.start).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


CA = Authority()


def link(*, now: datetime = NOW, **settings: Any) -> ByCertificate:
    return ByCertificate(CertificateSettings(name="certs", **settings), wall=now.timestamp)


async def outcome(der: bytes | None, client_id: str = "d", *, now: datetime = NOW, **settings: Any) -> Any:
    return await link(now=now, **settings).check(Credentials(client_id=client_id, certificate=der))


def name_of(answer: Any) -> str:
    assert isinstance(answer, Allowed), answer
    assert answer.username is not None
    return answer.username


async def test_without_a_certificate_a_device_is_left_to_the_next() -> None:
    assert await outcome(None) is None


async def test_the_common_name_is_the_user_until_the_certificate_expires() -> None:
    answer = await outcome(CA.issue("d-7"))
    assert name_of(answer) == "d-7"
    assert answer.expires_at == (START + timedelta(days=30)).timestamp()


@pytest.mark.parametrize(
    ("identity", "name"), [("san_dns", "d7.example"), ("san_uri", "urn:dev:7"), ("san_email", "d7@example")]
)
async def test_D11_the_name_is_taken_from_where_the_rule_says_and_nowhere_else(identity: str, name: str) -> None:
    alternative = [
        x509.DNSName("d7.example"), x509.UniformResourceIdentifier("urn:dev:7"), x509.RFC822Name("d7@example"),
    ]  # fmt: skip
    assert name_of(await outcome(CA.issue("other", alternative=alternative), identity=identity)) == name
    assert isinstance(await outcome(CA.issue(name), identity=identity), Denied)


@pytest.mark.parametrize("names", [(), ("a", "b"), ("a", "a")])
async def test_D11_no_name_or_more_than_one_is_none(names: tuple[str, ...]) -> None:
    assert isinstance(await outcome(CA.issue(*names)), Denied)
    alternative = [x509.DNSName(name) for name in names]
    assert isinstance(await outcome(CA.issue("x", alternative=alternative), identity="san_dns"), Denied)


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\x7f", " a", "a\u2028", ""])
async def test_D11_a_name_with_odd_characters_is_none(name: str) -> None:
    assert isinstance(await outcome(CA.issue(name)), Denied)


@pytest.mark.parametrize(
    ("usages", "comes_in"),
    [
        (CLIENT, True),
        (None, True),
        ((ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,), True),
        ((ExtendedKeyUsageOID.SERVER_AUTH,), False),
        ((ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH), True),
    ],
)
async def test_D11_one_that_is_not_for_clients_is_refused(usages: Any, comes_in: bool) -> None:
    assert isinstance(await outcome(CA.issue("d", usages=usages)), Allowed) is comes_in


@pytest.mark.parametrize("now", [START - timedelta(seconds=1), START + timedelta(days=30)])
async def test_D11_one_that_is_not_valid_now_is_refused(now: datetime) -> None:
    assert isinstance(await outcome(CA.issue("d"), now=now), Denied)


class TestNameThatABalancerTold:
    """It has verified the certificate, and passes on the common name only, as HAProxy does."""

    async def check(self, name: str = "d-7", client_id: str = "d-7", **settings: Any) -> Any:
        return await link(**settings).check(Credentials(client_id=client_id, common_name=name))

    async def test_it_is_the_user_as_if_it_stood_in_a_certificate(self) -> None:
        answer = await self.check(pattern="{model}-{serial}", username="${serial}")
        assert name_of(answer) == "7"
        assert answer.attributes == {"model": "d", "serial": "7"}
        assert await link().still(answer)

    @pytest.mark.parametrize(("name", "client_id"), [("d-7", "d-8"), ("d-7 ", "d-7"), ("x\0", "x")])
    async def test_it_is_held_to_the_same_rules(self, name: str, client_id: str) -> None:
        assert isinstance(await self.check(name, client_id, bound_to="client_id"), Denied)

    @pytest.mark.parametrize("identity", ["san_dns", "san_uri", "san_email"])
    async def test_it_is_no_other_name(self, identity: str) -> None:
        assert isinstance(await self.check(identity=identity), Denied)

    async def test_where_revocation_must_be_known_it_is_not_enough_before_and_after_a_reload(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "ca.pem").write_bytes(CA.pem())
        (tmp_path / "crl.pem").write_bytes(CA.revoke(9))
        lists: dict[str, Any] = {"ca": tmp_path / "ca.pem", "crl": tmp_path / "crl.pem"}
        assert isinstance(await self.check(**lists), Denied)
        assert not await link(**lists).still(await self.check())

    async def test_the_certificate_itself_comes_first(self) -> None:
        shown = Credentials(client_id="d", certificate=CA.issue("d-8"), common_name="d-7")
        assert name_of(await link().check(shown)) == "d-8"


@pytest.mark.parametrize("der", [b"", b"\x30", b"no certificate"])
async def test_bytes_that_are_no_certificate_are_refused(der: bytes) -> None:
    assert isinstance(await outcome(der), Denied)


async def test_a_certificate_of_a_version_that_there_is_not_is_refused() -> None:
    version = b"\xa0\x03\x02\x01"
    der = CA.issue("d")
    assert version + b"\x02" in der
    assert isinstance(await outcome(der.replace(version + b"\x02", version + b"\x12", 1)), Denied)


async def test_a_name_of_a_kind_that_it_cannot_have_is_refused_here_and_by_the_list_of_revoked_ones() -> None:
    name = b"\x06\x03\x55\x04\x03"
    der = CA.issue("d")
    assert name + b"\x0c\x01d" in der
    der = der.replace(name + b"\x0c", name + b"\x03")  # a string of bits
    assert isinstance(await outcome(der), Denied)
    assert Revoked({}, {}).why_not(der, 0.0) == "a certificate that cannot be read"
    assert Revoked({}, {}).has(der)


@pytest.mark.filterwarnings("error")
async def test_an_odd_serial_number_is_no_matter_for_warnings() -> None:
    serial = b"\x02\x01"
    der = CA.issue("d", serial=7)
    assert serial + b"\x07" in der
    assert isinstance(await outcome(der.replace(serial + b"\x07", serial + b"\x00", 1)), Allowed)


@pytest.mark.parametrize(
    ("bound_to", "name", "client_id", "comes_in"),
    [
        ("nothing", "d-7", "other", True),
        ("client_id", "d-7", "d-7", True),
        ("client_id", "d-7", "D-7", False),
        ("client_id", "d-7", "d-70", False),
        ("mac", "00:1A:2b:3c:4d:5e", "001a2b3c4d5e", True),
        ("mac", "001a.2b3c.4d5e", "00-1A-2B-3C-4D-5E", True),
        ("mac", "00:1A:2b:3c:4d:5e", "001a2b3c4d5f", False),
        ("mac", "no address", "no address", False),
    ],
)
async def test_D11_a_certificate_is_bound_to_a_client_identifier(
    bound_to: str, name: str, client_id: str, comes_in: bool
) -> None:
    answer = await outcome(CA.issue(name), client_id, bound_to=bound_to)
    assert isinstance(answer, Allowed) is comes_in
    if not comes_in:
        assert answer.reason is ReasonCode.CLIENT_IDENTIFIER_NOT_VALID


async def test_a_pattern_gives_attributes_and_the_user_name() -> None:
    pattern: dict[str, Any] = {"pattern": "{model}-{serial}.devices.example", "username": "dev-${serial}"}
    answer = await outcome(CA.issue("tx9-42.devices.example"), **pattern)
    assert name_of(answer) == "dev-42"
    assert answer.attributes == {"model": "tx9", "serial": "42"}
    assert isinstance(await outcome(CA.issue("tx9-42.evil.example"), **pattern), Denied)


class TestRevoked:
    def settings(self, folder: Path, *lists: bytes, ca: Authority = CA) -> dict[str, Any]:
        (folder / "crl.pem").write_bytes(b"".join(lists))
        (folder / "ca.pem").write_bytes(ca.pem())
        return {"crl": folder / "crl.pem", "ca": folder / "ca.pem"}

    async def test_D11_one_that_was_revoked_is_refused(self, tmp_path: Path) -> None:
        settings = self.settings(tmp_path, CA.revoke(7, 8))
        assert isinstance(await outcome(CA.issue("d", serial=7), **settings), Denied)
        assert isinstance(await outcome(CA.issue("d", serial=9), **settings), Allowed)

    async def test_a_device_that_is_connected_is_held_against_the_next_list(self, tmp_path: Path) -> None:
        allowed = await outcome(CA.issue("d", serial=7), **self.settings(tmp_path, CA.revoke()))
        assert isinstance(allowed, Allowed)
        assert await link(**self.settings(tmp_path, CA.revoke(8))).still(allowed)
        assert not await link(**self.settings(tmp_path, CA.revoke(7))).still(allowed)

    async def test_D11_one_of_a_ca_without_a_list_is_refused(self, tmp_path: Path) -> None:
        assert isinstance(await outcome(Authority("other").issue("d"), **self.settings(tmp_path, CA.revoke())), Denied)

    async def test_D11_a_list_that_is_too_old_lets_nobody_in(self, tmp_path: Path) -> None:
        settings = self.settings(tmp_path, CA.revoke(until=NOW))
        with pytest.raises(BackEndDownError):
            await outcome(CA.issue("d"), **settings)

    def test_D11_a_list_that_another_one_has_signed_is_a_fault(self, tmp_path: Path) -> None:
        for made in (Authority("other").revoke(), Authority("CA").revoke(), b"", b"no list", CA.pem()):
            with pytest.raises(ConfigError):
                link(**self.settings(tmp_path, made))

    def test_a_file_that_is_not_there_is_a_fault(self, tmp_path: Path) -> None:
        settings = self.settings(tmp_path, CA.revoke())
        with pytest.raises(ConfigError):
            link(**{**settings, "crl": tmp_path / "none"})
