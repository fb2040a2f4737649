"""A file of users, as `[[access.passwords]]` names one: read strictly, with all its faults, and written by commands.

No fault shows what stands for a password (`BAD-INPUT` D6: a line that is no good is no user).
"""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from mqttproxy.config.attribute_patterns import NAME
from mqttproxy.config.errors import ConfigError, Fault, quoted
from mqttproxy.config.load import decode, parse_toml
from mqttproxy.config.structure import structure_as
from mqttproxy.config.topic_templates import safe_value
from mqttproxy.config.users import UserSettings, UsersFile

LONGEST_NAME: Final = 256  # characters
# What argon2-cffi writes, and others as well: version, memory, passes, lanes, salt, hash.
ARGON2ID: Final = re.compile(
    r"\$argon2id\$v=19\$m=([1-9]\d{0,7}),t=([1-9]\d{0,3}),p=([1-9]\d{0,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{16,86}"
)
SCRAM: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")
VERIFIER: Final = re.compile(r"[A-Za-z0-9+/=]{12,100}(:[A-Za-z0-9+/=]{44,88}){2}")
MOST_MEMORY: Final = 1024 * 1024  # KiB that checking one password may take


def parse_users(data: bytes, file: str) -> tuple[UserSettings, ...]:
    """Return the users of a file.

    Raises:
        ConfigError: with everything that is wrong with it.

    """
    document: dict[str, Any] = parse_toml(decode(data, file), file)
    users: tuple[UserSettings, ...] = structure_as(document, UsersFile, file).users
    faults: list[Fault] = []
    seen: dict[str, int] = {}
    for index, user in enumerate(users):
        key = f"users[{index}]"
        if words := name_fault(user.name):
            faults.append(Fault(file, f"{key}.name", quoted(user.name), words))
        if (other := seen.setdefault(user.name, index)) != index:
            faults.append(Fault(file, f"{key}.name", quoted(user.name), "a name of its own", f"users[{other}] has it"))
        if not is_argon2id(user.password):
            faults.append(
                Fault(file, f"{key}.password", "something that is not shown", "argon2id", "use `mqttproxy user`")
            )
        if not all(name in SCRAM and VERIFIER.fullmatch(text) for name, text in user.scram):
            faults.append(Fault(file, f"{key}.scram", "something that is not shown", "what `mqttproxy user` writes"))
        faults.extend(
            Fault(file, f"{key}.attributes.{name}", quoted(text), words)
            for name, text in user.attributes
            if (words := attribute_fault(name, text))
        )
    if faults:
        raise ConfigError(faults)
    return users


def is_argon2id(text: str) -> bool:
    """Tell whether a text is a password that can be checked at a bearable price."""
    found = ARGON2ID.fullmatch(text)
    return found is not None and 8 <= int(found[1]) <= MOST_MEMORY and int(found[2]) <= 100


def name_fault(name: str) -> str:
    """Return in words what the name of a user must be, empty: it is."""
    good = 0 < len(name) <= LONGEST_NAME and name.isprintable() and name.strip() == name
    return "" if good else f"1 to {LONGEST_NAME} printable characters"


def attribute_fault(name: str, text: str) -> str:
    """Return in words what an attribute must be, empty: it is."""
    if not NAME.fullmatch(name):
        return "a name of letters, digits and underscores"
    return "" if safe_value(text) and len(text) <= LONGEST_NAME else "a text without +, # and /"


def write_users(users: Iterable[UserSettings]) -> str:
    """Return the text of a file. What people had written beside the users is not kept."""
    lines = ["# Users of mqttproxy; `mqttproxy user` writes this file anew.\n"]
    for user in users:
        lines += ["[[users]]", f"name = {_text(user.name)}", f"password = {_text(user.password)}"]
        if user.attributes:
            pairs = ", ".join(f"{name} = {_text(value)}" for name, value in user.attributes)
            lines.append(f"attributes = {{ {pairs} }}")
        if user.scram:
            pairs = ", ".join(f'"{name}" = {_text(value)}' for name, value in user.scram)
            lines.append(f"scram = {{ {pairs} }}")
        if not user.enabled:
            lines.append("enabled = false")
        lines.append("")
    return "\n".join(lines)


def _text(value: str) -> str:
    return json.dumps(
        value, ensure_ascii=False
    )  # TOML reads what JSON writes of a text, but for surrogates, which it has none of
