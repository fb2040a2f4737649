"""`subject.toml` written anew with one alias changed, and everything else, comments too, as it was."""

import re
import tomllib
from typing import Any, Final

_TABLE: Final = re.compile(r"^\s*\[")
_ALIASES: Final = re.compile(r"^\s*\[\s*aliases\s*\]\s*(#.*)?$")


def with_alias(text: str, name: str, version: str) -> str:
    """Return the text with an alias that means a version.

    Raises:
        ValueError: the file is written in a way that can only be changed by hand.

    """
    lines = text.splitlines()
    begin, end, at = _place(lines, name)
    line = f'{_key(name)} = "{version}"'
    if at is not None:
        lines[at] = line
    elif begin is not None:
        lines.insert(end, line)
    else:
        lines += ["", "[aliases]", line] if lines else ["[aliases]", line]
    expected = _parsed(text)
    expected["aliases"] = {**expected.get("aliases", {}), name: version}
    return _same("\n".join(lines) + "\n", expected)


def without_alias(text: str, name: str) -> str:
    """Return the text without an alias. Raises ValueError as `with_alias` does."""
    lines = text.splitlines()
    _, _, at = _place(lines, name)
    if at is not None:
        del lines[at]
    expected = _parsed(text)
    expected["aliases"] = {key: value for key, value in expected.get("aliases", {}).items() if key != name}
    return _same("\n".join(lines) + "\n", expected)


def _place(lines: list[str], name: str) -> tuple[int | None, int, int | None]:
    """Return where the table of aliases begins and ends, and the line of one of them."""
    begin = next((index for index, line in enumerate(lines) if _ALIASES.match(line)), None)
    if begin is None:
        return None, len(lines), None
    end = next((index for index in range(begin + 1, len(lines)) if _TABLE.match(lines[index])), len(lines))
    of_name = re.compile(rf"""^\s*["']?{re.escape(name)}["']?\s*=""")
    at = next((index for index in range(begin + 1, end) if of_name.match(lines[index])), None)
    while end > begin + 1 and not lines[end - 1].strip():
        end -= 1
    return begin, end, at


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'


def _same(text: str, expected: dict[str, Any]) -> str:
    if _parsed(text) != expected:
        raise ValueError("subject.toml is written in a way that can only be changed by hand")
    return text


def _parsed(text: str) -> dict[str, Any]:
    document = tomllib.loads(text)
    if not isinstance(document.get("aliases", {}), dict):
        raise ValueError("aliases is no table")  # noqa: TRY004 - of the file, not of a type
    return document
