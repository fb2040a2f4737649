"""Target `scram`: any messages of a device end in proof or in a ScramError, and in proof only if there is one.

An answer has what RFC 5802 asks for, with the device's own nonce in front; whom the first message names can be shown in
a log or is refused later, and nobody who is not there gets further than who is.

Input: one byte of choices, the first message, a zero, and the last message. In that, `%r` stands for the whole nonce
and `%p` for the proof that is right for what stands before it.
"""

import hmac
from base64 import b64decode, b64encode
from hashlib import pbkdf2_hmac, sha256, sha512
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqttproxy.access.scram import ITERATIONS, LONGEST, MECHANISMS, Conversation, ScramError, Verifier

WORDS = (
    b"n,,", b"y,,", b"p=tls-unique,,", b"n=user", b"n=nobody", b"r=abc", b",r=%r", b",p=%p", b"c=biws", b"c=eSws",
    b"a=root", b"m=ext", b"=2C", b"=3D", b"=", b",", b"\0", b"\xcc\x88", b"\xc2\xad",
)  # fmt: skip
_SALT: Final = b"0123456789abcdef"
_HASHES: Final[dict[str, Any]] = {"SCRAM-SHA-256": sha256, "SCRAM-SHA-512": sha512}
_CLIENT_KEYS: Final = {
    name: hmac.digest(pbkdf2_hmac(kind().name, b"pencil", _SALT, ITERATIONS), b"Client Key", kind)
    for name, kind in _HASHES.items()
}
_VERIFIERS: Final = {
    name: Verifier(_SALT, kind(_CLIENT_KEYS[name]).digest(), bytes(kind().digest_size))
    for name, kind in _HASHES.items()
}

_names = st.sampled_from(["user", "nobody", "=2C", "=", ""]) | st.text(max_size=8)
_firsts = st.builds(
    lambda head, name, nonce, more: f"{head}n={name},r={nonce}{more}".encode(errors="replace"),
    st.sampled_from(["n,,", "y,,", "n,a=user,", "p=x,,", ""]),
    _names,
    st.sampled_from(["abcdefgh", "", ","]),
    st.sampled_from(["", ",x=1"]),
)
_lasts = st.sampled_from(
    [
        b"c=biws,r=%r,p=%p",
        b"c=eSws,r=%r,p=%p",
        b"c=biws,r=x%r,p=%p",
        b"c=biws,r=%r",
        b"r=%r,c=biws,p=%p",
        b"c=biws,r=%r,x=1,p=%p",
    ]
)
strategy: SearchStrategy[bytes] = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda flags, first, last: bytes((flags,)) + first + b"\0" + last, st.integers(0, 3), _firsts, _lasts),
)


def check(data: bytes) -> object:
    """Hold the invariant on one input; return what marks it as new: how far it came, and the words."""
    mechanism = MECHANISMS[data[0] & 1 if data else 0]
    first, _, last = data[1:].partition(b"\0")
    talk = Conversation(mechanism, lambda name: _VERIFIERS[mechanism] if name == "user" else None, bytes(32))
    try:
        challenge = talk.start(first)
    except ScramError as error:
        return "first", _kind(error)
    parts = dict(part.split("=", 1) for part in challenge.decode().split(","))
    assert set(parts) == {"r", "s", "i"}
    assert parts["i"] == str(ITERATIONS)
    assert len(parts["s"]) == 24
    assert f",r={parts['r'][:1]}" in first.decode()
    final = last.replace(b"%r", parts["r"].encode())
    bare = first.decode().split(",", 2)[-1]
    right = _proof(mechanism, f"{bare},{challenge.decode()},{final.partition(b',p=%p')[0].decode(errors='replace')}")
    final = final.replace(b"%p", right)
    try:
        word = talk.finish(final)
    except ScramError as error:
        return "last", _kind(error), talk.username == "user"
    assert talk.username == "user"
    assert word.startswith(b"v=")
    assert final.endswith(b",p=" + right)
    assert len(final) <= LONGEST
    said = dict(part.split("=", 1) for part in final.decode().split(","))
    assert said["r"] == parts["r"]
    binding = ",".join(first.decode().split(",", 2)[:2]) + ","
    assert b64decode(said["c"]) == binding.encode()  # however often it ends with "=": the proof is of what was sent
    return "proved", mechanism


def _proof(mechanism: str, words: str) -> bytes:
    kind, key = _HASHES[mechanism], _CLIENT_KEYS[mechanism]
    signature = hmac.digest(kind(key).digest(), words.encode(), kind)
    return b64encode(bytes(one ^ other for one, other in zip(key, signature, strict=True)))


def _kind(error: ScramError) -> str:
    return str(error)[:24]
