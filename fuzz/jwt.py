"""Target `jwt`: a token lets in if and only if a plain reading of the rules does, and never raises.

Input: one byte of choices, then a token as it stands, or (2) header and claims, a zero between them, which are encoded
here and (4) signed with the key or (8) with another.
"""

import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from joserfc.jwk import OctKey

from fuzz.awaiting import finished
from mqttproxy.access.by_token import ByToken, FixedKeys
from mqttproxy.access.credentials import Allowed, Credentials, Denied
from mqttproxy.access.keys import TokenKey
from mqttproxy.config.admitting import TokenSettings
from mqttproxy.config.kinds import Labels
from mqttproxy.config.users_file import name_fault

NOW: Final = 1_000_000.0
KEY: Final = b"0123456789abcdef0123456789abcdef"
OTHER: Final = KEY[::-1]
LONGEST: Final = 8192
ISSUER, AUDIENCE = "https://id", "mqtt"
WORDS = (
    b'"alg":"HS256"', b'"alg":"none"', b'"kid":"a"', b'"crit":["exp"]', b'"b64":false', b'"jwk":{}',
    b'"iss":"https://id"',
    b'"aud":"mqtt"', b'"aud":["mqtt"]', b'"exp":1000060', b'"exp":1e308', b'"exp":NaN', b'"exp":Infinity',
    b'"nbf":1000000',
    b'"iat":-1', b'"sub":"ada"', b'"acl":{"publish":["a/#"]}', b'"site":"n"', b"{", b"}", b"[", b"]", b",", b":",
    b".", b"\0",
    b"\\ud800", b"true", b"null", b"9" * 20,
)  # fmt: skip

_settings: Final = TokenSettings(
    name="tokens", issuer=ISSUER, audience=AUDIENCE, attributes=Labels((("site", "site"),)), acl="acl"
)
_keys: Final = FixedKeys({kid: TokenKey(frozenset({"HS256"}), OctKey.import_key(KEY)) for kid in (None, "a")})
_subject: Final = ByToken(_settings, _keys, longest=LONGEST, wall=lambda: NOW)

_odd = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)
_headers = st.fixed_dictionaries(
    {"alg": st.just("HS256") | st.sampled_from(["none", "HS512", "RS256"]) | _odd},
    optional={"kid": st.sampled_from(["a", "b", 7]), "typ": st.just("JWT"), "crit": _odd, "b64": _odd, "cty": _odd},
)
_times = st.sampled_from([0, NOW - 11, NOW - 9, NOW, NOW + 9, NOW + 60, NOW + 90_000]) | _odd
_claims = st.fixed_dictionaries(
    {"iss": st.just(ISSUER), "aud": st.sampled_from([AUDIENCE, [AUDIENCE], "x"]) | _odd,
    "exp": st.just(NOW + 60) | _times},
    optional={
        "sub": st.just("ada") | _odd, "nbf": _times, "iat": _times, "site": st.text(max_size=4) | _odd,
        "acl": st.dictionaries(st.sampled_from(["publish", "subscribe", "x"]), st.lists(st.sampled_from(["a/#", "#a",
        "$x"]) | _odd)) | _odd,
    },
)  # fmt: skip
strategy: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda flags, header, claims: (
            bytes((flags,)) + json.dumps(header).encode() + b"\0" + json.dumps(claims).encode()
        ),
        st.sampled_from([2, 6, 6, 6, 10]),
        _headers,
        _claims,
    ),
)


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: the answer, and why."""
    flags = data[0] if data else 0
    header, _, claims = data[1:].partition(b"\0")
    token = _signed(header, claims, flags) if flags & 2 else data[1:]
    answer = finished(_subject.check(Credentials(client_id="d", username=None, password=token)))
    if isinstance(answer, Denied):
        answer.why.encode()
        assert len(answer.why) <= 300
        return answer.why[:40]
    if answer is None:
        return None
    assert isinstance(answer, Allowed)
    assert flags & 6 == 6, "it was not signed by the key"
    assert len(token) <= LONGEST
    head, body = json.loads(header), json.loads(claims)
    assert head["alg"] == "HS256"
    assert head.get("kid") in (None, "a")
    assert "crit" not in head
    _hold_claims(answer, body)
    return "allowed", len(answer.attributes), len(answer.grants or ())


def _hold_claims(answer: Allowed, body: dict[str, Any]) -> None:
    assert body["iss"] == ISSUER
    assert body["aud"] == AUDIENCE or AUDIENCE in body["aud"]
    assert NOW - _settings.leeway < body["exp"] <= NOW + _settings.longest + _settings.leeway
    assert answer.expires_at == body["exp"] + _settings.leeway
    assert all(0 <= (body.get(name) or 0) <= NOW + _settings.leeway for name in ("nbf", "iat"))
    assert answer.username == body["sub"]
    assert not name_fault(answer.username or "")
    assert all(str(body[name]) == value for name, value in answer.attributes.items())
    assert [*(answer.grants or ())] == [
        (what, one) for what, filters in (body.get("acl") or {}).items() for one in filters
    ]
    assert not any(one.startswith("$") for _, one in answer.grants or ())


def _signed(header: bytes, claims: bytes, flags: int) -> bytes:
    signed = _text(header) + b"." + _text(claims)
    key = KEY if flags & 4 else OTHER if flags & 8 else None
    return signed + b"." + (b"AA" if key is None else _text(hmac.digest(key, signed, "sha256")))


def _text(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
