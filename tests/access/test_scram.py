"""SCRAM: the vectors of RFC 7677, what a device may not do (BAD-INPUT D8), and that nobody finds out who is there."""

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from scramp import ScramClient, ScramMechanism

from mqttproxy.access import scram
from mqttproxy.access.credentials import BackEndDownError
from mqttproxy.access.scram import (
    MECHANISMS,
    Conversation,
    ScramError,
    Verifier,
    make_verifiers,
    parse_verifier,
    secret_of,
)

SECRET = bytes(32)
# RFC 7677, section 3.
SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.fixture(scope="module")
def kept() -> dict[str, Verifier]:
    found = {name: parse_verifier(text) for name, text in make_verifiers("pencil").items()}
    return {name: verifier for name, verifier in found.items() if verifier is not None}


def conversation(verifier: Verifier | None, mechanism: str = "SCRAM-SHA-256") -> Conversation:
    return Conversation(mechanism, lambda name: verifier if name == "user" else None, SECRET)


def talk(subject: Conversation, client: ScramClient) -> str:
    client.set_server_first(subject.start(client.get_client_first().encode()).decode())
    final: str = subject.finish(client.get_client_final().encode()).decode()
    client.set_server_final(final)  # raises unless the server has proved that it knows the user
    return final


def test_D8_the_vectors_of_rfc_7677(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "ITERATIONS", 4096)
    salt, stored, server, _ = ScramMechanism("SCRAM-SHA-256").make_auth_info("pencil", iteration_count=4096, salt=SALT)
    subject = conversation(Verifier(salt, stored, server))
    subject._server.s_nonce = type(subject._server.s_nonce)("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    assert subject.start(CLIENT_FIRST) == SERVER_FIRST
    assert subject.finish(CLIENT_FINAL) == SERVER_FINAL
    assert subject.username == "user"


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_both_sides_prove_that_they_know_the_password(mechanism: str, kept: dict[str, Verifier]) -> None:
    talk(conversation(kept[mechanism], mechanism), ScramClient([mechanism], "user", "pencil"))


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(("username", "password"), [("user", "pen"), ("nobody", "pencil")])
def test_D8_a_wrong_proof_and_an_unknown_user_fail_at_the_same_step(
    mechanism: str, username: str, password: str, kept: dict[str, Verifier]
) -> None:
    client = ScramClient([mechanism], username, password)
    subject = conversation(kept[mechanism], mechanism)
    client.set_server_first(subject.start(client.get_client_first().encode()).decode())
    with pytest.raises(ScramError):
        subject.finish(client.get_client_final().encode())


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_D8_who_is_not_there_has_a_salt_like_everybody_and_always_the_same(
    mechanism: str, kept: dict[str, Verifier]
) -> None:
    def challenge(name: str, secret: bytes = SECRET) -> dict[str, str]:
        find = {"user": kept[mechanism]}.get
        answer = Conversation(mechanism, find, secret).start(f"n,,n={name},r=abcdefghijklmnop".encode())
        return dict(part.split("=", 1) for part in answer.decode().split(","))

    there, not_there = challenge("user"), challenge("nobody")
    assert there["i"] == not_there["i"]
    assert len(there["s"]) == len(not_there["s"])
    assert challenge("nobody")["s"] == not_there["s"]
    assert challenge("other")["s"] != not_there["s"]
    assert challenge("nobody", bytes(31) + b"1")["s"] != not_there["s"]


def test_D8_a_nonce_is_used_once(kept: dict[str, Verifier]) -> None:
    answers = {conversation(kept["SCRAM-SHA-256"]).start(CLIENT_FIRST) for _ in range(20)}
    assert len(answers) == 20


@pytest.mark.parametrize(
    "change",
    [
        lambda final, first: final.replace("r=", "r=x"),
        lambda final, first: final.replace("c=biws", "c=" + b64encode(b"y,,").decode()),
        lambda final, first: final.replace("c=biws", "c=" + b64encode(b"n,a=root,").decode()),
        lambda final, first: final.rpartition(",p=")[0],
        lambda final, first: final.rpartition(",p=")[0] + ",p=",
        lambda final, first: final.rpartition(",p=")[0] + ",p=" + b64encode(bytes(32)).decode(),
        lambda final, first: first,
        lambda final, first: "",
    ],
)
def test_D8_a_last_message_that_was_changed_proves_nothing(change: Any, kept: dict[str, Verifier]) -> None:
    client = ScramClient(["SCRAM-SHA-256"], "user", "pencil")
    subject = conversation(kept["SCRAM-SHA-256"])
    first = client.get_client_first()
    client.set_server_first(subject.start(first.encode()).decode())
    with pytest.raises(ScramError):
        subject.finish(change(client.get_client_final(), first).encode())


def test_D8_a_proof_cannot_be_sent_again(kept: dict[str, Verifier]) -> None:
    client, subject = ScramClient(["SCRAM-SHA-256"], "user", "pencil"), conversation(kept["SCRAM-SHA-256"])
    first = client.get_client_first().encode()
    client.set_server_first(subject.start(first).decode())
    final = client.get_client_final().encode()
    subject.finish(final)
    again = conversation(kept["SCRAM-SHA-256"])
    again.start(first)
    with pytest.raises(ScramError):
        again.finish(final)
    with pytest.raises(ScramError):
        subject.finish(final)


def refuses(subject: Conversation, first: bytes, last: bytes) -> bool:
    """Tell whether a conversation ends in a refusal; any other error is raised."""
    try:
        subject.start(first)
        subject.finish(last)
    except ScramError:
        return True
    return False


@pytest.mark.parametrize(
    "message",
    [b"", b"n", b"n,,", b"n,,n=user", b"n,,r=abc", b"p=tls-unique,,n=user,r=abc", b"\xff\xfe", b"x,,n=user,r=abc",
     b"n,,m=ext,n=user,r=abc", b"n,,n=user,r=", b"n,,n=" + b"u" * 2000 + b",r=abc"],
)  # fmt: skip
def test_D8_a_first_message_that_is_no_good_is_refused(message: bytes, kept: dict[str, Verifier]) -> None:
    subject = conversation(kept["SCRAM-SHA-256"])
    assert refuses(subject, message, b"c=biws,r=,p=")


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_give_a_refusal_and_never_another_error(first: bytes, last: bytes) -> None:
    subject = conversation(Verifier(bytes(16), bytes(32), bytes(32)))
    assert refuses(subject, first, last)


@given(st.text(max_size=40))
def test_any_name_gives_a_refusal_and_never_another_error(name: str) -> None:
    subject = conversation(None)
    assert refuses(subject, f"n,,n={name},r=abcdefgh".encode(errors="replace"), b"c=biws,r=abcdefgh,p=AAAA")


def test_what_is_kept_is_read_again_and_anything_else_is_not() -> None:
    texts = make_verifiers("pencil")
    assert set(texts) == set(MECHANISMS)
    for text in texts.values():
        verifier = parse_verifier(text)
        assert verifier is not None
        assert verifier.as_text() == text
        assert "pencil" not in repr(verifier)
    for text in ("", "a:b:c", "AAAA:AAAA:AAAA", texts["SCRAM-SHA-256"] + ":AAAA", "x" * 100):
        assert parse_verifier(text) is None


def test_the_secret_of_an_installation_is_made_once_and_private(tmp_path: Path) -> None:
    secret = secret_of(tmp_path)
    assert secret_of(tmp_path) == secret
    assert len(secret) == 32
    assert (tmp_path / "scram.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "scram.key").write_bytes(b"short")
    with pytest.raises(BackEndDownError):
        secret_of(tmp_path)
    with pytest.raises(BackEndDownError):
        secret_of(tmp_path / "none")
