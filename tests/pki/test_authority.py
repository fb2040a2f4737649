"""mqttproxy/pki/authority.py: what is issued, renewed, revoked; and what is kept, whatever is lost."""

import datetime as dt
import sqlite3
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mqttproxy.pki.authority import Authority, all_records, serial_of
from mqttproxy.pki.errors import PkiError
from mqttproxy.pki.wanted import wanted
from mqttproxy.wholefile import write_whole
from tests.pki.authorities import DAY, MONTH, NOW, begin, holder, listed, read_ca, the_list


def csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None, name: str = "whatever it says") -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder(subject).sign(key or ec.generate_private_key(ec.SECP256R1()), SHA256())
    return made.public_bytes(Encoding.PEM)


def test_a_ca_signs_itself_and_no_other_ca(tmp_path: Path) -> None:
    directory = begin(tmp_path)
    ca = read_ca(directory)
    ca.verify_directly_issued_by(ca)
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert ca.not_valid_before_utc < NOW
    assert the_list(directory).number == 1
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {
        "ca.key": 0o600, "ca.pem": 0o644, "crl.pem": 0o644, "index.sqlite3": 0o600,
    }  # fmt: skip
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_there_is_one_ca_in_a_folder(tmp_path: Path) -> None:
    directory = begin(tmp_path)
    before = (directory / "ca.key").read_bytes()
    with pytest.raises(PkiError, match="there is a CA already"):
        begin(tmp_path)
    assert (directory / "ca.key").read_bytes() == before


def test_a_device_gets_key_and_certificate_bound_to_what_it_is(tmp_path: Path) -> None:
    directory = begin(tmp_path)
    what = wanted("device-7", device_serial="SN-7", mac="00:1B:44:11:3A:B7")
    with Authority.open(directory, now=NOW) as ca:
        handed = ca.issue(what, now=NOW, life=MONTH, out=tmp_path / "out")
    made = holder(handed.folder)
    made.verify_directly_issued_by(read_ca(directory))
    assert made.subject.rfc4514_string() == "2.5.4.5=SN-7,CN=device-7"
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:dev:mac:001b44fffe113ab7"]
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert made.not_valid_after_utc == (NOW + MONTH).replace(microsecond=0) == handed.record.not_after
    assert stat.S_IMODE((handed.folder / "private_key.pem").stat().st_mode) == 0o600
    assert (handed.folder / "ca.pem").read_bytes() == (directory / "ca.pem").read_bytes()
    (record,), notes = all_records(directory, now=NOW)
    assert (record, notes) == (handed.record, [])
    assert record.serial == made.serial_number


def test_a_server_is_known_by_its_hosts(tmp_path: Path) -> None:
    directory = begin(tmp_path)
    what = wanted("broker", "server", hosts=("localhost", "127.0.0.1"))
    with Authority.open(directory, now=NOW) as ca:
        made = holder(ca.issue(what, now=NOW, life=MONTH, out=tmp_path / "out").folder)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_of_a_signing_request_only_the_key_counts(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    with Authority.open(begin(tmp_path), now=NOW) as ca:
        handed = ca.issue(wanted("d"), now=NOW, life=MONTH, out=tmp_path / "out", csr=csr(key, "admin"))
    assert sorted(path.name for path in handed.folder.iterdir()) == ["ca.pem", "certificate.pem"]
    made = holder(handed.folder)
    assert made.public_key() == key.public_key()
    assert made.subject.rfc4514_string() == "CN=d"


def forged() -> bytes:
    """Return a request for a key by whoever does not have it."""
    lines = csr().splitlines()
    middle = len(lines) - 3
    lines[middle] = lines[middle][:-2] + (b"AA" if lines[middle][-2:] != b"AA" else b"BB")
    return b"\n".join(lines)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b"junk", "cannot be read"),
        (csr(rsa.generate_private_key(65537, 1024)), "RSA of 2048"),  # noqa: S505 - that is the point
        (csr(ec.generate_private_key(ec.SECP256K1())), "none of P-256"),
        (forged(), "was not signed by its own key|cannot be read"),
    ],
)
def test_a_signing_request_that_shows_nothing_is_refused(tmp_path: Path, request_: bytes, words: str) -> None:
    directory = begin(tmp_path)
    with Authority.open(directory, now=NOW) as ca, pytest.raises(PkiError, match=words):
        ca.issue(wanted("d"), now=NOW, life=MONTH, out=tmp_path / "out", csr=request_)
    assert all_records(directory, now=NOW) == ([], [])


def test_what_a_device_is_bound_to_is_bound_to_one_name(tmp_path: Path) -> None:
    directory, out = begin(tmp_path), tmp_path / "out"
    mac = "00:1B:44:11:3A:B7"
    with Authority.open(directory, now=NOW) as ca:
        ca.issue(wanted("a", mac=mac), now=NOW, life=DAY, out=out)
        with pytest.raises(PkiError, match=r"certificate \w+ of 'a' is bound to the same device: revoke it first"):
            ca.issue(wanted("b", mac="001b44113ab7"), now=NOW, life=DAY, out=out)
        ca.issue(wanted("b", mac=mac), now=NOW + 2 * DAY, life=DAY, out=out)  # a's has ended
        ca.revoke("b", now=NOW + 2 * DAY, reason="superseded")
        (out / "a").rename(out / "old")
        ca.issue(wanted("a", mac=mac), now=NOW + 2 * DAY, life=DAY, out=out)


def test_nothing_that_is_there_is_written_over(tmp_path: Path) -> None:
    directory, out = begin(tmp_path), tmp_path / "out"
    with Authority.open(directory, now=NOW) as ca:
        first = holder(ca.issue(wanted("d"), now=NOW, life=DAY, out=out).folder)
        with pytest.raises(PkiError, match="is there already: renew it, or move it away"):
            ca.issue(wanted("d"), now=NOW, life=DAY, out=out)
    assert holder(out / "d") == first
    assert len(all_records(directory, now=NOW)[0]) == 1


def test_nothing_outlives_the_ca_and_no_life_is_without_end(tmp_path: Path) -> None:
    with Authority.open(begin(tmp_path), now=NOW) as ca:
        for life, words in ((3651 * DAY, "would outlive the CA"), (DAY * 0, "more than nothing"), (-DAY, "nothing")):
            with pytest.raises(PkiError, match=words):
                ca.issue(wanted("d"), now=NOW, life=life, out=tmp_path / "out")


def test_renewed_is_the_same_for_longer_and_the_old_one_stays_valid(tmp_path: Path) -> None:
    directory, out = begin(tmp_path), tmp_path / "out"
    what = wanted("d", mac="00:1B:44:11:3A:B7", device_serial="SN")
    later = NOW + 20 * DAY
    with Authority.open(directory, now=NOW) as ca:
        first = ca.issue(what, now=NOW, life=MONTH, out=out)
        old = holder(first.folder)
    with Authority.open(directory, now=later) as ca:
        second = ca.renew("d", now=later, life=MONTH, out=out)
        new = holder(second.folder)
        assert (new.subject, new.public_key()) == (old.subject, old.public_key())
        assert new.not_valid_after_utc - old.not_valid_after_utc == 20 * DAY
        assert (second.record.what, second.record.replaces) == (what, first.record.serial)
        other = ec.generate_private_key(ec.SECP256R1())
        third = ca.renew(f"{second.record.serial:x}", now=later, life=MONTH, out=tmp_path / "other", csr=csr(other))
        assert holder(third.folder).public_key() == other.public_key()
        with pytest.raises(PkiError, match=r"private_key\.pem is another key: name another folder"):
            ca.renew("d", now=later, life=MONTH, out=out, csr=csr(other))
        assert ca.revoke(f"{first.record.serial:x}", now=later, reason="superseded")
        assert listed(directory) == {first.record.serial}
        with pytest.raises(PkiError, match="was revoked: issue a new one"):
            ca.renew(f"{first.record.serial:x}", now=later, life=MONTH, out=out)
        assert ca.renew("d", now=later, life=MONTH, out=out).record.replaces in (
            second.record.serial,
            third.record.serial,
        )
        with pytest.raises(PkiError, match="no certificate has the serial number or name 'nobody'"):
            ca.renew("nobody", now=later, life=MONTH, out=out)


def test_revoked_is_in_the_list_until_it_would_have_ended_anyway(tmp_path: Path) -> None:
    directory, out = begin(tmp_path), tmp_path / "out"
    with Authority.open(directory, now=NOW) as ca:
        short = ca.issue(wanted("a"), now=NOW, life=DAY, out=out).record
        long = ca.issue(wanted("b"), now=NOW, life=MONTH, out=out).record
        assert [one.reason for one in ca.revoke("a", now=NOW, reason="keyCompromise")] == ["keyCompromise"]
        assert ca.revoke(f"{long.serial:X}", now=NOW, reason="unspecified")[0].serial == long.serial
        assert ca.revoke("a", now=NOW, reason="unspecified") == []
    found = the_list(directory)
    assert {one.serial: one.reason for one in found.entries} == {
        short.serial: "keyCompromise",
        long.serial: "unspecified",
    }
    assert (found.life, found.number) == (MONTH, 4)
    with Authority.open(directory, now=NOW + 2 * DAY) as ca:
        ca.write_list(NOW + 2 * DAY)
    assert listed(directory) == {long.serial}


def test_a_list_is_renewed_by_whoever_comes_when_half_of_its_time_is_over(tmp_path: Path) -> None:
    directory = begin(tmp_path)
    for days, number in ((14, 1), (16, 2), (17, 2)):
        with Authority.open(directory, now=NOW + days * DAY) as ca:
            assert ca.notes == []
        assert the_list(directory).number == number


def test_a_passphrase_keeps_the_key_and_is_needed(tmp_path: Path) -> None:
    directory = begin(tmp_path, b"correct horse")
    assert b"ENCRYPTED" in (directory / "ca.key").read_bytes()
    with Authority.open(directory, now=NOW, passphrase=b"correct horse"):
        pass
    for passphrase, words in ((None, "is encrypted"), (b"battery", "wrong passphrase")):
        with pytest.raises(PkiError, match=words), Authority.open(directory, now=NOW, passphrase=passphrase):
            pass
    assert all_records(directory, now=NOW) == ([], [])


def test_a_key_that_others_may_read_or_that_is_another_one_is_not_used(tmp_path: Path) -> None:
    directory, other = begin(tmp_path), begin(tmp_path / "other")
    (directory / "ca.key").chmod(0o640)
    with pytest.raises(PkiError, match=r"others may read it \(mode 640\)"), Authority.open(directory, now=NOW):
        pass
    write_whole(directory / "ca.key", (other / "ca.key").read_bytes(), 0o600)
    with pytest.raises(PkiError, match=r"ca\.key is not the key of ca\.pem"), Authority.open(directory, now=NOW):
        pass
    with pytest.raises(PkiError, match="the CA has ended"), Authority.open(other, now=NOW + 3651 * DAY):
        pass
    with pytest.raises(PkiError, match="no CA: begin one"), Authority.open(tmp_path, now=NOW):
        pass


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    with Authority.open(begin(tmp_path), now=NOW) as ca:
        assert "PRIVATE" not in repr(ca)
        assert repr(ca.issuer) == "Issuer(CN=Acme)"


@pytest.mark.parametrize("how", ["junk", "gone", "torn"])
def test_a_damaged_index_is_set_aside_and_what_was_revoked_stays_revoked(tmp_path: Path, how: str) -> None:
    directory, out = begin(tmp_path), tmp_path / "out"
    with Authority.open(directory, now=NOW) as ca:
        revoked = ca.issue(wanted("a"), now=NOW, life=MONTH, out=out).record
        lost = ca.issue(wanted("b"), now=NOW, life=MONTH, out=out)
        ca.revoke("a", now=NOW, reason="keyCompromise")
    index = directory / "index.sqlite3"
    data = index.read_bytes()
    if how == "gone":
        index.unlink()
    else:
        index.write_bytes(b"junk" * 5000 if how == "junk" else data[:4096] + bytes(4096) + data[8192:])
    with Authority.open(directory, now=NOW + DAY) as ca:
        (note,) = ca.notes
        assert "a new one begins with the 1 revocations of crl.pem" in note
        assert ("is set aside in" in note) is (how != "gone")
        assert [one.serial for one in ca.index.all()] == [revoked.serial]
        ca.revoke(None, now=NOW + DAY, reason="unspecified", certificate=lost.record.pem.encode())
    assert listed(directory) == {revoked.serial, lost.record.serial}
    assert the_list(directory).number > 2
    asides = list(directory.glob("broken-*/index.sqlite3"))
    assert len(asides) == (0 if how == "gone" else 1)
    with Authority.open(directory, now=NOW + DAY) as ca:
        assert ca.notes == []


def test_if_the_list_is_lost_too_nothing_is_done(tmp_path: Path) -> None:
    directory = begin(tmp_path)
    index = directory / "index.sqlite3"
    index.write_bytes(b"junk" * 5000)
    (directory / "crl.pem").write_bytes(b"junk")
    with pytest.raises(PkiError, match="put back either of them"), Authority.open(directory, now=NOW):
        pass
    assert index.read_bytes() == b"junk" * 5000
    assert not list(directory.glob("broken-*"))


def test_a_list_that_was_damaged_or_taken_back_is_written_anew(tmp_path: Path) -> None:
    directory, out = begin(tmp_path), tmp_path / "out"
    empty = (directory / "crl.pem").read_bytes()
    with Authority.open(directory, now=NOW) as ca:
        revoked = ca.issue(wanted("a"), now=NOW, life=MONTH, out=out).record
        ca.revoke("a", now=NOW, reason="unspecified")
    for content, words in ((empty, "it did not have all that was revoked"), (b"junk", "cannot be read")):
        (directory / "crl.pem").write_bytes(content)
        with Authority.open(directory, now=NOW) as ca:
            assert words in ca.notes[0]
        assert listed(directory) == {revoked.serial}


def test_only_certificates_of_this_ca_can_be_revoked_by_their_file(tmp_path: Path) -> None:
    directory, other = begin(tmp_path), begin(tmp_path / "other")
    with Authority.open(other, now=NOW) as ca:
        strange = ca.issue(wanted("x"), now=NOW, life=DAY, out=tmp_path / "out").record.pem
    with Authority.open(directory, now=NOW) as ca:
        for pem, words in ((strange.encode(), "not of this CA"), (b"junk", "cannot be read")):
            with pytest.raises(PkiError, match=words):
                ca.revoke(None, now=NOW, reason="unspecified", certificate=pem)


def test_two_at_once_do_not_come_in_between(tmp_path: Path) -> None:
    directory = begin(tmp_path)
    other = sqlite3.connect(directory / "index.sqlite3", isolation_level=None)
    with Authority.open(directory, now=NOW) as ca:
        ca.index._connection.execute("PRAGMA busy_timeout = 10")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(PkiError, match="locked"):
            ca.issue(wanted("d"), now=NOW, life=DAY, out=tmp_path / "out")
        other.execute("ROLLBACK")
        ca.issue(wanted("d"), now=NOW, life=DAY, out=tmp_path / "out")
    other.close()


@pytest.mark.parametrize(
    ("text", "serial"), [("0a:FF", 0xAFF), ("ff", 255), ("device-7", None), ("", None), ("f" * 41, None), ("0x1", None)]
)
def test_serial_numbers_are_hexadecimal(text: str, serial: int | None) -> None:
    assert serial_of(text) == serial


def test_times_may_have_fractions(tmp_path: Path) -> None:
    directory = begin(tmp_path)
    later = NOW + dt.timedelta(microseconds=999_999)
    with Authority.open(directory, now=later) as ca:
        ca.issue(wanted("d"), now=later, life=dt.timedelta(seconds=1.5), out=tmp_path / "out")
        ca.revoke("d", now=later, reason="unspecified")
    assert len(listed(directory)) == 1
