"""All rows by their id, and the ways over which each is played: every transport, whole and byte by byte.

Rows by hand are played whole over every transport, and byte by byte over one of them in turn. Rows by rule, of which
there are thousands, are spread over all of these ways. With `BAD_INPUT=long` in the environment every row goes every
way.
"""

import os
from collections import defaultdict
from itertools import product
from typing import Final

import pytest

from tests.bad_input.framing_rows import FRAMING
from tests.bad_input.rows import Play, Row
from tests.bad_input.session_rows import SESSIONS
from tests.bad_input.string_rows import STRINGS, TEXTS
from tests.bad_input.systematic_rows import SYSTEMATIC
from tests.bad_input.wire import V5, V311

LONG: Final = os.environ.get("BAD_INPUT") == "long"
CUT_BYTES: Final = 2000  # longer rows are not sent byte by byte
VERSIONS: Final = {V311: "3.1.1", V5: "5"}
NAMES: Final = ("tcp", "tls", "ws")
WAYS: Final = tuple(product(NAMES, (False, True)))
TRANSPORTS: Final = pytest.mark.parametrize("transport", NAMES)
BOTH_VERSIONS: Final = pytest.mark.parametrize("version", VERSIONS, ids=VERSIONS.values())

BY_HAND: Final = (*FRAMING, *STRINGS, *SESSIONS)
# A case that a rule makes too is there once.
ROWS: Final = tuple({(row.send, row.version, row.state): row for row in (*SYSTEMATIC, *TEXTS, *BY_HAND)}.values())
_HANDMADE: Final = frozenset(map(id, BY_HAND))


def ways_of(number: int, row: Row) -> set[tuple[str, bool]]:
    """Return over which transports the row of this number is played, and whether byte by byte."""
    if LONG:
        ways = set(WAYS)
    elif id(row) in _HANDMADE:
        ways = {(name, False) for name in NAMES} | {(NAMES[number % len(NAMES)], True)}
    else:
        ways = {WAYS[number % len(WAYS)]}
    return {(name, cut and len(row.send) < CUT_BYTES) for name, cut in ways}


def every_way(identifier: str) -> pytest.MarkDecorator:
    """Give a test the `plays` of the rows of this id, those of one version and one `transport` each time."""
    plays: dict[tuple[str, int], list[Play]] = defaultdict(list)
    for number, row in enumerate(ROWS):
        if row.id == identifier:
            for transport, cut in sorted(ways_of(number, row)):
                plays[transport, row.version].append(Play(row, cut))
    assert plays
    ids = [f"{transport}-{VERSIONS[version]}" for transport, version in plays]
    cases = [(transport, some) for (transport, _), some in plays.items()]
    return pytest.mark.parametrize(("transport", "plays"), cases, ids=ids)
