"""Passwords as argon2id. Each check takes a tenth of a second of one processor and 64 MiB, so it is done in threads."""

import hmac
import threading
from collections import OrderedDict
from functools import cache
from hashlib import sha256
from secrets import token_bytes
from typing import Any, Final

EXTRA: Final = "install mqttproxy[passwords], which brings argon2"
REMEMBERED: Final = 100_000  # passwords at most that are known again without the work
_UNKNOWN: Final = (bytes(32), 0.0)


@cache
def _hasher() -> Any:
    from argon2 import PasswordHasher  # noqa: PLC0415 - an extra

    return PasswordHasher()  # argon2id, by the second choice of RFC 9106


def hash_password(password: bytes) -> str:
    """Return a password as it is kept. Raises ImportError: the extra is not installed."""
    text: str = _hasher().hash(password)
    return text


def is_right(kept: str, password: bytes) -> bool:
    """Tell whether a password is the one that is kept."""
    from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415 - an extra

    try:
        return bool(_hasher().verify(kept, password))
    except (VerificationError, InvalidHashError):
        return False


def nobodys() -> str:
    """Return what is checked where there is no user: the same work as for one, and no password is right."""
    return hash_password(token_bytes(32))


class Remembered:
    """Passwords that were right a moment ago, so that a thousand devices that come back at once need no new work.

    Only a hash is kept, with a key that this process has drawn for itself. May be used from several threads.
    """

    def __init__(self, seconds: float, most: int = REMEMBERED) -> None:
        self.seconds = seconds
        self._most = most
        self._key = token_bytes(32)
        self._known: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._lock = threading.Lock()

    def knows(self, name: str, kept: str, password: bytes, now: float) -> bool:
        """Tell whether this password was right for what is kept. `now`: monotonic seconds."""
        with self._lock:
            digest, until = self._known.get(name, _UNKNOWN)
        same = hmac.compare_digest(digest, self._digest(kept, password))  # for everybody: it must not tell who is there
        return same and now < until

    def learn(self, name: str, kept: str, password: bytes, now: float) -> None:
        """Hear that it was."""
        digest = self._digest(kept, password)
        with self._lock:
            self._known.pop(name, None)
            self._known[name] = (digest, now + self.seconds)
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def _digest(self, kept: str, password: bytes) -> bytes:
        return hmac.digest(self._key, kept.encode() + b"\0" + password, sha256)
