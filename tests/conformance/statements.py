"""What a normative statement is here: its number, what it says in words of our own, whom it binds, and what holds it.

`statements_5` and `statements_311` list them; tests say with `holds_5` and `holds_311` which of them they hold.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

from attrs import frozen

Version = Literal["5.0", "3.1.1"]
Test = TypeVar("Test", bound=Callable[..., Any])

# (version, number) to the tests that hold it, as `file::name` below this folder. Filled when test modules are imported.
HELD: Final[dict[tuple[Version, str], list[str]]] = defaultdict(list)


@frozen
class Statement:
    """One numbered statement of the standard.

    Attributes:
        number: as in the standard, without `MQTT-`.
        binds: whom it tells what to do.
        words: what it asks for, in our own words.
        why: why no test against the running proxy can hold it; empty where one does.
        also: tests elsewhere in the repository that hold it, from the top folder.

    """

    number: str
    binds: Literal["server", "client", "both"]
    words: str
    why: str = ""
    also: tuple[str, ...] = ()


def server(number: str, words: str, why: str = "", *also: str) -> Statement:
    """Make a statement that binds the server only."""
    return Statement(number, "server", words, why, also)


def client(number: str, words: str, why: str = "", *also: str) -> Statement:
    """Make a statement that binds the client only."""
    return Statement(number, "client", words, why, also)


def both(number: str, words: str, why: str = "", *also: str) -> Statement:
    """Make a statement that binds whoever sends or receives."""
    return Statement(number, "both", words, why, also)


def holds_5(*numbers: str) -> Callable[[Test], Test]:
    """Say which statements of MQTT 5.0 a test holds."""
    return _holds("5.0", numbers)


def holds_311(*numbers: str) -> Callable[[Test], Test]:
    """Say which statements of MQTT 3.1.1 a test holds."""
    return _holds("3.1.1", numbers)


def _holds(version: Version, numbers: tuple[str, ...]) -> Callable[[Test], Test]:
    def note(test: Test) -> Test:
        module = test.__module__.rpartition(".")[2]
        for number in numbers:
            HELD[version, number].append(f"{module}.py::{test.__name__}")
        return test

    return note
