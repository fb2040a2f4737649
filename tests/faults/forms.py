"""The two forms of these tests: the short one in every run, the long one by `make faults-tests`.

What only the long form does is behind `LONG` or `in_long_form`, and `rows.py` names it.
"""

import os
from typing import Final, TypeVar

LONG: Final = os.environ.get("FAULTS") == "long"

T = TypeVar("T")


def in_long_form(*values: T) -> tuple[T, ...]:
    """Return these; in the short form none."""
    return values if LONG else ()
