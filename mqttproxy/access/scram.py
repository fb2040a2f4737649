"""SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), the server's side: a conversation of two messages each way."""

import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes
from typing import Any, Final

from attrs import field, frozen
from scramp import ScramException, ScramMechanism

from mqttproxy.access.credentials import BackEndDownError

MECHANISMS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")
ITERATIONS: Final = 16_384  # of every user, so that their number tells nothing
SALT: Final = 16  # bytes
SECRET: Final = 32  # bytes
LONGEST: Final = 1024  # bytes of a message
EXTRA: Final = "install mqttproxy[scram], which brings scramp"


class ScramError(Exception):
    """The device does not know the password, or does not speak SCRAM; in words, never for the device."""


@frozen
class Verifier:
    """What is kept of a password: it proves it, and cannot be used to prove it to others."""

    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    def as_text(self) -> str:
        """Return it as it is kept."""
        return ":".join(b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key))


def parse_verifier(text: str) -> Verifier | None:
    """Return what is kept as a text, None: it is none."""
    try:
        parts = [b64decode(part, validate=True) for part in text.split(":")]
    except ValueError:
        return None
    good = len(parts) == 3 and len(parts[0]) >= 8 and len(parts[1]) == len(parts[2]) and len(parts[1]) in (32, 64)
    return Verifier(*parts) if good else None


def make_verifiers(password: str) -> dict[str, str]:
    """Return what is kept of a password, for each mechanism. It takes a moment."""
    found = {}
    for name in MECHANISMS:
        salt, stored, server, _ = ScramMechanism(name).make_auth_info(
            password, iteration_count=ITERATIONS, salt=token_bytes(SALT)
        )
        found[name] = Verifier(salt, stored, server).as_text()
    return found


class Conversation:
    """One conversation. `username`: whose, once the first message was read; not proved before `finish` returned."""

    def __init__(self, mechanism: str, find: Callable[[str], Verifier | None], secret: bytes) -> None:
        """Make it.

        Args:
            mechanism: one of MECHANISMS.
            find: what is kept of a user's password; None: there is no such user, or without this mechanism.
            secret: of this installation. Who is not there has a salt too, always the same.

        """
        self.username = ""
        self._find = find
        self._secret = secret
        self._mechanism = mechanism
        self._known = False
        self._server: Any = ScramMechanism(mechanism).make_server(self._keys)

    def start(self, message: bytes) -> bytes:
        """Return the challenge for a first message. Raises ScramError."""
        return self._step(message, self._server.set_client_first, self._server.get_server_first)

    def finish(self, message: bytes) -> bytes:
        """Return the last word, which proves that we know the user too. Raises ScramError: it is not who it says."""
        last = self._step(message, self._server.set_client_final, self._server.get_server_final)
        if not self._known:  # nobody knows the keys that were made up
            raise ScramError("no such user, or without SCRAM")
        return last

    def _step(self, message: bytes, take: Callable[[str], None], answer: Callable[[], str]) -> bytes:
        if len(message) > LONGEST:
            raise ScramError("a message that is too long")
        try:
            take(message.decode())
            return answer().encode()
        # What the library raises for messages that are no good is not all its own.
        except (ScramException, ValueError, KeyError, IndexError) as error:
            raise ScramError(f"{type(error).__name__}: {error}"[:200]) from error

    def _keys(self, username: str) -> tuple[bytes, bytes, bytes, int]:
        self.username = username
        found = self._find(username)
        self._known = found is not None
        if found is None:
            size = 32 if self._mechanism.endswith("256") else 64
            salt = hmac.digest(self._secret, f"{self._mechanism}\0{username}".encode(), sha256)[:SALT]
            found = Verifier(salt, bytes(size), bytes(size))
        return found.salt, found.stored_key, found.server_key, ITERATIONS


def secret_of(directory: Path) -> bytes:
    """Return the secret of an installation, made if there is none. Blocking.

    Raises:
        BackEndDownError: it cannot be read or written.

    """
    path = directory / "scram.key"
    try:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            secret = path.read_bytes()
        else:
            secret = token_bytes(SECRET)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secret)
    except OSError as error:
        raise BackEndDownError(f"{path}: {error.strerror or error}") from error
    if len(secret) != SECRET:
        raise BackEndDownError(f"{path} holds {len(secret)} bytes, not {SECRET}")
    return secret
