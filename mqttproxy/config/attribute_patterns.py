"""What a text that a device says of itself looks like, and which attributes it so gives: `{model}-{firmware}-+`."""

import re
from collections.abc import Iterator
from typing import Final

from attrs import frozen

_PART: Final = re.compile(r"\{([^{}]*)\}|\+")  # of patterns, which are ours; never of what devices send
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@frozen
class AttributePattern:
    """Text that must stand there as it is, and names for what stands between."""

    head: str
    parts: tuple[tuple[str | None, str], ...]  # a name (None: `+`), and the text behind it

    def read(self, text: str) -> dict[str, str] | None:
        """Return the attributes that the text gives, or None: it does not look like this.

        Each name takes as little as it can, but something; the last one takes all that is left.
        """
        if not text.startswith(self.head):
            return None
        found: dict[str, str] = {}
        place = len(self.head)
        for index, (name, behind) in enumerate(self.parts):
            if index == len(self.parts) - 1:
                end = len(text) - len(behind) if text.endswith(behind) else -1
            else:
                end = text.find(behind, place + 1)
            if end <= place:
                return None
            if name is not None:
                found[name] = text[place:end]
            place = end + len(behind)
        return found if place == len(text) else None


def parse_pattern(text: str) -> AttributePattern | str:
    """Return the pattern that a text of the settings stands for, or what is wrong with it, in words."""
    head, parts = "", []
    for name, behind in _pieces(text):
        if name == "":
            head = behind
        else:
            parts.append((None if name == "+" else name, behind))
    names = [name for name, _ in parts if name is not None]
    if not names:
        return "nothing in it has a {name}"
    if any("{" in behind or "}" in behind for behind in (head, *(behind for _, behind in parts))):
        return "a brace without its partner"
    if bad := [name for name in names if not NAME.fullmatch(name)]:
        return f"{{{bad[0]}}} is no name of letters, digits and underscores"
    if len(set(names)) < len(names):
        return "each {name} stands once"
    if any(not behind for _, behind in parts[:-1]):
        return "there must be text between two names, or nobody knows where the first one ends"
    return AttributePattern(head, tuple(parts))


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and the text behind each; first, without a name, the text before all."""
    name, start = "", 0
    for part in _PART.finditer(text):
        yield name, text[start : part.start()]
        name, start = "+" if part[0] == "+" else part[1] or " ", part.end()
    yield name, text[start:]
