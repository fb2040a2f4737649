"""What tells one issue from all others. On its own, because the program that makes the tables needs no rooms."""

import json
from functools import lru_cache
from hashlib import blake2b
from typing import Final

DEVICES_KEPT: Final = 100  # of one issue, by name; more are not counted
_REMEMBERED: Final = 4096  # fingerprints


def normalise(pointer: str) -> str:
    """Return a JSON Pointer with `*` in place of each array index. A member whose name is a number looks like one."""
    first, *parts = pointer.split("/")
    return "/".join([first, *("*" if _is_index(part) else part for part in parts)])


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and (part[0] != "0" or part == "0")


@lru_cache(_REMEMBERED)
def fingerprint(policy: str | None, schema: str | None, pointer: str, keyword: str) -> str:
    """Return what tells an issue from all others. `pointer` need not be normalised."""
    facts = json.dumps([policy, schema, normalise(pointer), keyword])
    return blake2b(facts.encode(), digest_size=6).hexdigest()
