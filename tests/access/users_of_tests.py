"""Users for tests: with passwords that are cheap to check."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from argon2 import PasswordHasher

from mqttproxy.access import hashing
from mqttproxy.access.users import User

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def user(name: str = "ada", password: str = "correct horse", **more: Any) -> User:
    return User(name, CHEAP.hash(password), more.pop("attributes", {}), **more)


def users_toml(*users: User) -> str:
    """Return the text of a file of users."""
    lines = []
    for one in users:
        pairs = ", ".join(f'{name} = "{text}"' for name, text in one.attributes.items())
        lines.append(
            f'[[users]]\nname = "{one.name}"\npassword = "{one.password}"\nattributes = {{ {pairs} }}\n'
            f"enabled = {str(one.enabled).lower()}\n"
        )
    return "\n".join(lines)


@contextmanager
def cheap_hashes() -> Iterator[None]:
    """Make new passwords, and the one of nobody, as cheap as those of these users."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "_hasher", lambda: CHEAP)
        yield
