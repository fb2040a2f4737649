r"""Texts that a regular expression matches, for the expressions that schemas have.

Understood are literals, `.`, `\d \w \s`, classes, groups with `|`, `? * + {m,n}`, and anchors, which are skipped.
Whatever else there is gives a text that does not match; whoever asks looks at that, and asks again.
"""

import string
from random import Random
from typing import Final

from attrs import define

REPEATED: Final = 4  # more than the least, where there is no most
LONGEST: Final = 4096  # characters of a text
_WORD: Final = string.ascii_letters + string.digits + "_"
_CLASSES: Final = {"d": string.digits, "w": _WORD, "s": " "}
_OUTSIDE: Final = {"D": "x", "W": "-", "S": "x"}
_ANY: Final = string.ascii_letters + string.digits


@define
class _Reader:
    """Reads the expression and makes the text in one go. What is repeated is read again, from where it began."""

    pattern: str
    chance: Random
    at: int = 0
    budget: int = LONGEST

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self) -> str:
        self.at += 1
        return self.pattern[self.at - 1 : self.at]

    def alternatives(self) -> str:
        """Read up to the end of a group, and choose one of what stands between its bars."""
        made = [self.sequence()]
        while self.peek() == "|":
            self.take()
            made.append(self.sequence())
        return self.chance.choice(made)

    def sequence(self) -> str:
        parts = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.piece())
        return "".join(parts)

    def piece(self) -> str:
        begins = self.at
        made = [self.atom()]
        ends = self.at
        low, high = self.count()
        behind = self.at
        for _ in range(self.chance.randint(low, high) - 1):
            if self.budget <= 0:
                break
            self.at = begins
            made.append(self.atom())
            self.at = ends
        self.at = behind
        return "".join(made) if high and not (low == 0 and self.chance.random() < 0.5) else ""

    def count(self) -> tuple[int, int]:
        match self.peek():
            case "?":
                low, high = 0, 1
            case "*":
                low, high = 0, REPEATED
            case "+":
                low, high = 1, 1 + REPEATED
            case "{" if (end := self.pattern.find("}", self.at)) > 0:
                first, comma, last = self.pattern[self.at + 1 : end].partition(",")
                if not first.isdecimal() or not (last.isdecimal() or not last):
                    return 1, 1
                low = min(int(first), LONGEST)
                high = min(int(last), LONGEST) if last else low + REPEATED if comma else low
                self.at = end
            case _:
                return 1, 1
        self.take()
        if self.peek() in ("?", "+"):  # lazy or possessive
            self.take()
        return low, max(low, high)

    def atom(self) -> str:
        self.budget -= 1
        match self.take():
            case "(":
                return self.group()
            case "[":
                characters = self.choices()
                return self.chance.choice(characters) if characters else ""
            case "\\":
                return self.chance.choice(_escaped(self.take()))
            case ".":
                return self.chance.choice(_ANY)
            case "^" | "$":
                return ""
            case character:
                return character

    def group(self) -> str:
        if self.peek() == "?":  # (?: or a name; what looks ahead is not understood
            self.take()
            if self.take() in ("<", "P"):
                self.at = self.pattern.find(">", self.at) + 1 or len(self.pattern)
        made = self.alternatives()
        self.take()
        return made

    def choices(self) -> str:
        """Read a class, and return the characters it stands for."""
        is_negated = self.peek() == "^"
        if is_negated:
            self.take()
        found: list[str] = []
        while self.peek() not in ("", "]") or not found:
            first = self.take()
            if not first:
                break
            if first == "\\":
                found += _escaped(self.take())
            elif self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("", "]"):
                self.take()
                last = self.take()
                found += map(chr, range(ord(first), min(ord(last), ord(first) + 200) + 1))
            else:
                found.append(first)
        self.take()
        return (
            "".join(character for character in _ANY + "-_ ." if character not in found)
            if is_negated
            else "".join(found)
        )


def _escaped(character: str) -> str:
    return (
        _CLASSES.get(character)
        or _OUTSIDE.get(character)
        or {"t": "\t", "n": "\n", "b": " "}.get(character)
        or (character or "\\")
    )


def text_for(pattern: str, chance: Random) -> str:
    """Return a text that the expression may match."""
    reader = _Reader(pattern, chance)
    made = []
    while reader.at < len(pattern):
        made.append(reader.alternatives())
        reader.at += 1  # a bracket that closes nothing
    return "".join(made)[:LONGEST]
