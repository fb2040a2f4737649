"""Cross-checks of certificates, tokens and addresses that are asked, with the exact sentences."""

import json

import pytest

from tests.config.documents import faults

URL = "expected an https:// address, or http:// on this machine, without a password in it"


def certificates(more: str) -> str:
    return f'[[access.certificates]]\nname = "c"\n{more}\n'


def tokens(more: str) -> str:
    return f'[[access.tokens]]\nname = "t"\nissuer = "i"\naudience = "a"\n{more}\n'


def key(algorithms: str, more: str = "") -> str:
    return f'[[access.tokens.keys]]\nfile = "k"\nalgorithms = {algorithms}\n{more}\n'


def http(url: str) -> str:
    return f'[[access.http]]\nname = "h"\nurl = "{url}"\n'


def postgresql(url: str, more: str = "") -> str:
    return f'[[access.passwords]]\nname = "u"\n[access.passwords.postgresql]\nurl = "{url}"\n{more}\n'


DATABASE = 'expected an address such as "postgresql://role@host:5432/database", without a password'
TABLE = "expected at most 54 lower case letters, digits and underscores, perhaps behind a schema and a dot"


GOOD = [
    postgresql("postgresql://role@db.example/devices"),
    postgresql("postgresql://role@[::1]:5433/d", 'table = "devices.users_2"\npassword_file = "p"\nca = "c"'),
    postgresql("postgresql://role@%2Frun%2Fpostgresql/d", 'connect_timeout = "2s"\nstatement_timeout = "100ms"'),
    certificates(""),
    certificates('pattern = "{model}-{serial}"\nusername = "${serial}"\ncrl = "a"\nca = "b"\nidentity = "san_dns"'),
    tokens(key('["HS256", "HS512"]')),
    tokens(key('["RS256", "PS256"]') + key('["EdDSA", "Ed25519"]', 'id = "x"')),
    tokens('jwks = "https://id.example/keys"\nattributes = { site = "site" }'),
    tokens('jwks = "http://127.0.0.1:8080/keys"'),
    http("https://auth.example:8443/mqtt?x=1"),
    http("http://localhost/"),
    http("http://[::1]:8080/"),
]

BAD = [
    (
        certificates('pattern = "x"\nusername = "${"'),
        [
            (
                'access.certificates[0].pattern: found "x", expected a pattern such as "{model}-{serial}"; nothing '
                "in it has a {name}"
            ),
            'access.certificates[0].username: found "${", expected a text such as "${serial}"; a ${ without its }',
        ],
    ),
    (
        certificates('pattern = "{a}"\nusername = "${b}"'),
        ['access.certificates[0].username: found "${b}", expected names that the pattern gives'],
    ),
    (
        certificates('username = "${b}"'),
        ['access.certificates[0].username: found "${b}", expected names that the pattern gives'],
    ),
    (certificates('crl = "a"'), ["access.certificates[0].ca: found nothing, expected the CA that has signed crl"]),
    (
        certificates('ca = "a"'),
        ["access.certificates[0].crl: found nothing, expected a list of revoked certificates, because ca is given"],
    ),
    (tokens(""), ["access.tokens[0]: found neither keys nor jwks, expected either keys or jwks"]),
    (
        tokens('jwks = "https://a/"' + "\n" + key('["RS256"]')),
        ["access.tokens[0]: found keys and jwks, expected either keys or jwks"],
    ),
    (
        tokens('jwks = "https://a/"\njwks_algorithms = ["RS256", "HS256"]'),
        [
            (
                "access.tokens[0].jwks_algorithms: found ['RS256', 'HS256'], expected algorithms with public keys; "
                "what everybody can fetch is no secret"
            )
        ],
    ),
    (
        tokens(key('["HS256", "RS256"]') + key("[]", 'id = "x"')),
        [
            "access.tokens[0].keys[0].algorithms: found ['HS256', 'RS256'], expected algorithms of one kind of key",
            "access.tokens[0].keys[1].algorithms: found an empty list, expected algorithms of one kind of key",
        ],
    ),
    (
        tokens(key('["ES256", "ES384"]') + key('["RS256"]')),
        [
            "access.tokens[0].keys[0].algorithms: found ['ES256', 'ES384'], expected algorithms of one kind of key",
            'access.tokens[0].keys[1].id: found "", expected an id of its own; keys[0] has it',
        ],
    ),
    *(
        (postgresql(url), [f'access.passwords[0].postgresql.url: found "{shown}", {DATABASE}'])
        for url, shown in (
            ("postgresql://role:secret@db.example/d", "db.example/d"),
            ("postgresql://db.example/d", "postgresql://db.example/d"),
            ("postgresql://role@db.example", "db.example"),
            ("postgresql://role@db.example/", "db.example/"),
            ("postgresql://role@/d", "/d"),
            ("postgresql://role@db.example/d?sslmode=disable", "db.example/d?sslmode=disable"),
            ("postgresql://role@db.example:x/d", "db.example:x/d"),
            ("mysql://role@db.example/d", "db.example/d"),
            ("", ""),
        )
    ),
    *(
        (
            postgresql("postgresql://r@localhost/d", f"table = '{table}'"),
            [f"access.passwords[0].postgresql.table: found {json.dumps(table)}, {TABLE}"],
        )
        for table in ("Users", "a.b.c", 'users"; DROP TABLE users; --', "users ", "1users", "", "a" * 55)
    ),
    (
        postgresql("postgresql://r@localhost/d", 'password_file = "missing"\nca = "missing"'),
        [
            (
                f'access.passwords[0].postgresql.{key}: found "/etc/mqttproxy/missing", no such file, expected a '
                "readable file"
            )
            for key in ("password_file", "ca")
        ],
    ),
    (
        postgresql("postgresql://r@localhost/d", 'connect_timeout = "1s"\nstatement_timeout = 0'),
        [
            "access.passwords[0].postgresql.connect_timeout: found 1s, expected 2s to 1m",
            "access.passwords[0].postgresql.statement_timeout: found 0s, expected 100ms to 1m",
        ],
    ),
    (
        '[[access.passwords]]\nname = "u"\nfile = "f"\n[access.passwords.postgresql]\ntable = "t"\n',
        ['access.passwords[0].postgresql.table: found "t", expected none, because url is not given'],
    ),
    (http("http://auth.example/"), [f'access.http[0].url: found "http://auth.example/", {URL}']),
    (http("ftp://auth.example/"), [f'access.http[0].url: found "ftp://auth.example/", {URL}']),
    (http("https://"), [f'access.http[0].url: found "https://", {URL}']),
    (http("https://a:b:c/"), [f'access.http[0].url: found "https://a:b:c/", {URL}']),
    (http("https://u:secret@a/"), [f'access.http[0].url: found "a/", {URL}']),
    (http("https://localhost:0x50/"), [f'access.http[0].url: found "https://localhost:0x50/", {URL}']),
]


@pytest.mark.parametrize("text", GOOD)
def test_what_fits_is_no_fault(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(("text", "told"), BAD)
def test_what_does_not_is_told(text: str, told: list[str]) -> None:
    assert faults(text, missing="missing") == told


def test_an_algorithm_that_is_none_is_no_algorithm() -> None:
    (sentence,) = faults(tokens(key('["none"]')))
    assert sentence.startswith('access.tokens[0].keys[0].algorithms[0]: found "none", expected one of "HS256"')
