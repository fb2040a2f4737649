"""Tokens: who comes in, and every trick of BAD-INPUT D7."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from mqttproxy.access.by_token import ByToken, FixedKeys
from mqttproxy.access.credentials import Allowed, BackEndDownError, Credentials, Denied
from mqttproxy.access.keys import TokenKey, quietly, read_key, read_set
from mqttproxy.config.admitting import TokenKeySettings, TokenSettings
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.kinds import Labels

NOW = 1_000_000.0
SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def signers() -> dict[str, Key]:
    """Return a private key for each algorithm that is asked for."""
    rsa, p256, p521 = RSAKey.generate_key(2048), ECKey.generate_key("P-256"), ECKey.generate_key("P-521")
    ed = OKPKey.generate_key("Ed25519")
    return {
        "HS256": OctKey.import_key(SECRET), "RS256": rsa, "PS256": rsa, "ES256": p256, "ES512": p521, "EdDSA": ed,
        "Ed25519": ed,
    }  # fmt: skip


def claims(**more: Any) -> dict[str, Any]:
    made = {"iss": "https://id", "aud": "mqtt", "sub": "ada", "exp": NOW + 60, "iat": NOW, **more}
    return {name: value for name, value in made.items() if value is not None}


def token(key: Key, algorithm: str = "HS256", header: Any = None, **more: Any) -> str:
    with quietly():
        return jwt.encode({"alg": algorithm, **(header or {})}, claims(**more), key, algorithms=[algorithm])


def public_of(key: Key) -> bytes:
    """Return a public key in PEM."""
    assert not isinstance(key, OctKey)
    return key.as_pem(private=False)


def link(keys: dict[Any, TokenKey], **settings: Any) -> ByToken:
    made = TokenSettings(name="tokens", issuer="https://id", audience="mqtt", **settings)
    return ByToken(made, FixedKeys(keys), longest=8192, wall=lambda: NOW)


def fixed(key: Key, *algorithms: str) -> dict[Any, TokenKey]:
    return {None: TokenKey(frozenset(algorithms or ("HS256",)), key)}


def shown(text: str, username: str | None = None) -> Credentials:
    return Credentials(client_id="d", username=username, password=text.encode())


async def outcome(subject: ByToken, text: str) -> Any:
    return await subject.check(shown(text))


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "PS256", "ES256", "ES512", "EdDSA", "Ed25519"])
async def test_every_kind_of_key_signs_for_its_user(algorithm: str, signers: dict[str, Key]) -> None:
    subject = link(fixed(signers[algorithm], algorithm), attributes=Labels((("site", "site"), ("line", "line"))))
    answer = await outcome(subject, token(signers[algorithm], algorithm, site="north", line=7))
    assert isinstance(answer, Allowed)
    assert (answer.username, answer.attributes) == ("ada", {"site": "north", "line": "7"})
    assert answer.expires_at == NOW + 70
    assert await subject.still(answer)
    assert not await link(fixed(OctKey.import_key(SECRET[::-1]))).still(answer)


async def test_the_token_may_stand_in_the_user_name(signers: dict[str, Key]) -> None:
    subject = link(fixed(signers["HS256"]), field="username")
    text = token(signers["HS256"])
    assert isinstance(await subject.check(Credentials(client_id="d", username=text)), Allowed)
    assert await subject.check(shown(text)) is None


@pytest.mark.parametrize(
    "text",
    ["", "password", "a.b", "a.b.c", "a.b.c.d", "..", "é.é.é", "e30.e30.x" * 1000, "W10.W10.AA", "bnVsbA.bnVsbA.AA"],
)
async def test_what_is_no_token_is_left_to_the_next(text: str, signers: dict[str, Key]) -> None:
    assert await outcome(link(fixed(signers["HS256"])), text) is None


async def test_a_token_of_another_issuer_is_left_to_the_next(signers: dict[str, Key]) -> None:
    for issuer in ("https://id/", "https://i", ["https://id"], None, "HTTPS://ID"):
        assert await outcome(link(fixed(signers["HS256"])), token(signers["HS256"], iss=issuer)) is None


BAD_CLAIMS: list[dict[str, Any]] = [
    {"aud": None}, {"aud": "other"}, {"aud": []}, {"aud": "mqtt2"}, {"aud": "mqt"}, {"aud": [["mqtt"]]},
    {"exp": None}, {"exp": NOW - 11}, {"exp": NOW + 90_000}, {"exp": "tomorrow"}, {"exp": True}, {"exp": -1},
    {"nbf": NOW + 11}, {"nbf": "now"}, {"iat": NOW + 11}, {"iat": {}},
    {"sub": None}, {"sub": ""}, {"sub": 7}, {"sub": ["ada"]}, {"sub": "a\nb"}, {"sub": "x" * 300},
    {"site": ["north"]}, {"site": {"a": 1}}, {"site": True},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_CLAIMS, ids=map(str, BAD_CLAIMS))
async def test_D7_claims_that_are_not_right_are_wrong(bad: dict[str, Any], signers: dict[str, Key]) -> None:
    subject = link(fixed(signers["HS256"]), attributes=Labels((("site", "site"),)))
    assert isinstance(await outcome(subject, token(signers["HS256"], **bad)), Denied)


@pytest.mark.parametrize(
    "good", [{"aud": ["a", "mqtt"]}, {"nbf": NOW + 9}, {"exp": NOW - 9}, {"iat": None}, {"nbf": 0}]
)
async def test_claims_that_are_right_are_right(good: dict[str, Any], signers: dict[str, Key]) -> None:
    assert isinstance(await outcome(link(fixed(signers["HS256"])), token(signers["HS256"], **good)), Allowed)


def part(document: Any) -> str:
    return urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 1, ["HS256"], "HS512", "RS256"])
async def test_D7_another_algorithm_than_the_key_is_for_is_refused(algorithm: Any, signers: dict[str, Key]) -> None:
    subject = link(fixed(signers["HS256"]))
    signature = token(signers["HS256"]).rpartition(".")[2]
    for last in (signature, "AA"):
        assert isinstance(await outcome(subject, f"{part({'alg': algorithm})}.{part(claims())}.{last}"), Denied)


async def test_D7_a_public_key_is_no_shared_secret(signers: dict[str, Key], tmp_path: Path) -> None:
    public = public_of(signers["RS256"])
    subject = link(fixed(signers["RS256"], "RS256"))
    signed = f"{part({'alg': 'HS256'})}.{part(claims())}"
    mac = urlsafe_b64encode(hmac.digest(public, signed.encode(), "sha256")).decode().rstrip("=")
    forged = f"{signed}.{mac}"
    assert isinstance(await outcome(subject, forged), Denied)
    (tmp_path / "key").write_bytes(public)
    with pytest.raises(ConfigError):
        read_key(TokenKeySettings(algorithms=("HS256",), file=tmp_path / "key"))


@pytest.mark.parametrize(
    "header",
    [{"kid": "../../dev/null"}, {"kid": "' OR 1=1"}, {"kid": "http://evil/key"}, {"kid": 7},
     {"kid": None, "crit": ["x"]}, {"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}],
)  # fmt: skip
async def test_D7_key_identifiers_lead_nowhere_else_and_nothing_is_critical(
    header: dict[str, Any], signers: dict[str, Key]
) -> None:
    head = part({"alg": "HS256", **header})
    signature = token(signers["HS256"]).rpartition(".")[2]
    assert isinstance(await outcome(link(fixed(signers["HS256"])), f"{head}.{part(claims())}.{signature}"), Denied)


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
async def test_D7_a_key_in_the_token_is_not_looked_at(name: str, signers: dict[str, Key]) -> None:
    own = OctKey.import_key(b"f" * 32)
    values = {"jwk": own.as_dict(private=True), "x5c": ["AAAA"]}
    text = token(own, header={name: values.get(name, "https://evil/keys")})
    assert isinstance(await outcome(link(fixed(signers["HS256"])), text), Denied)


def changed(text: str, place: int) -> str:
    parts = text.split(".")
    middle = len(parts[place]) // 2
    other = "A" if parts[place][middle] != "A" else "B"
    parts[place] = parts[place][:middle] + other + parts[place][middle + 1 :]
    return ".".join(parts)


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_D7_a_token_that_was_changed_lets_nobody_in(place: int, signers: dict[str, Key]) -> None:
    answer = await outcome(link(fixed(signers["HS256"])), changed(token(signers["HS256"]), place))
    assert not isinstance(answer, Allowed)


async def test_D7_a_token_that_is_too_long_is_none(signers: dict[str, Key]) -> None:
    assert await outcome(link(fixed(signers["HS256"])), token(signers["HS256"], pad="x" * 9000)) is None


async def test_what_a_token_allows_is_granted() -> None:
    key = OctKey.import_key(SECRET)
    subject = link(fixed(key), acl="acl")
    acl = {"publish": ["a/+"], "subscribe": ["b/#", "c"]}
    answer = await outcome(subject, token(key, acl=acl))
    assert isinstance(answer, Allowed)
    assert answer.grants == (("publish", "a/+"), ("subscribe", "b/#"), ("subscribe", "c"))
    nothing = await outcome(subject, token(key))
    assert isinstance(nothing, Allowed)
    assert nothing.grants == ()


@pytest.mark.parametrize(
    "acl",
    ["#", ["#"], {"publish": "#"}, {"publish": [1]}, {"all": ["#"]}, {"publish": ["a+"]}, {"publish": ["$SYS/#"]},
     {"subscribe": ["$share/g/#"]}, {"publish": ["a"] * 101}],
)  # fmt: skip
async def test_an_access_list_that_is_odd_refuses_the_token(acl: Any) -> None:
    key = OctKey.import_key(SECRET)
    assert isinstance(await outcome(link(fixed(key), acl="acl"), token(key, acl=acl)), Denied)


class TestKeys:
    def write(self, folder: Path, data: bytes, *algorithms: Any) -> TokenKey:
        (folder / "key").write_bytes(data)
        return read_key(TokenKeySettings(algorithms=algorithms, file=folder / "key"))

    def test_each_is_read_for_its_algorithms(self, tmp_path: Path, signers: dict[str, Key]) -> None:
        assert self.write(tmp_path, SECRET + b"\n", "HS256").algorithms == {"HS256"}
        for algorithm in ("RS256", "ES256", "EdDSA"):
            pem = public_of(signers[algorithm])
            assert self.write(tmp_path, pem, algorithm).algorithms == {algorithm}

    @pytest.mark.parametrize(
        ("make", "algorithm"),
        [
            (lambda _: b"short", "HS256"),
            (lambda _: b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJustAnExample", "HS256"),
            (lambda _: b"", "RS256"),
            (lambda _: b"no key at all", "ES256"),
            (lambda keys: keys["ES256"].as_pem(private=False), "RS256"),
            (lambda keys: keys["ES256"].as_pem(private=False), "ES512"),
            (lambda keys: keys["RS256"].as_pem(private=False), "EdDSA"),
        ],
    )
    def test_D7_what_does_not_fit_is_a_fault(
        self, make: Callable[[Any], bytes], algorithm: str, tmp_path: Path, signers: dict[str, Key]
    ) -> None:
        with pytest.raises(ConfigError):
            self.write(tmp_path, make(signers), algorithm)

    def test_one_that_is_not_there_is_a_fault(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError):
            read_key(TokenKeySettings(algorithms=("HS256",), file=tmp_path / "none"))

    def test_D7_of_a_set_only_what_may_sign_is_taken(self, signers: dict[str, Key]) -> None:
        rsa, ec = (signers[name].as_dict(private=False) for name in ("RS256", "ES256"))
        document = {
            "keys": [
                {**rsa, "kid": "a"}, {**ec, "kid": "b", "alg": "ES256"}, {**ec, "kid": "c", "use": "enc"},
                {**ec, "kid": "d", "alg": "RS256"}, {"kty": "oct", "k": "AAAA", "kid": "e"}, {"kty": "RSA", "kid": "f"},
                "nonsense", {"kid": "g"}, {**rsa, "kid": "a", "n": "AQAB"}, {**ec, "kid": ["x"]},
            ]
        }  # fmt: skip
        found = read_set(document, ("RS256", "ES256", "EdDSA"))
        assert {kid: set(key.algorithms) for kid, key in found.items()} == {
            "a": {"RS256"}, "b": {"ES256"}, None: {"ES256"},
        }  # fmt: skip

    @pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, "keys", {"keys": None}])
    def test_what_is_no_set_is_told(self, document: Any) -> None:
        with pytest.raises(ValueError, match="no JSON Web Key Set"):
            read_set(document, ("RS256",))


async def test_D7_keys_that_cannot_be_had_let_nobody_in(signers: dict[str, Key]) -> None:
    class Nowhere(FixedKeys):
        async def find(self, kid: str | None) -> TokenKey | None:
            raise BackEndDownError("out of reach")

    subject = link({})
    subject.keys = Nowhere({})
    with pytest.raises(BackEndDownError):
        await outcome(subject, token(signers["HS256"]))
