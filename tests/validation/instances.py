"""Instances that hypothesis-jsonschema makes for a schema.

Its 0.23 asks a tool of hypothesis's own kitchen how many members an object gets, in a way that newer ones do not answer
any more. The answer is given here; where either changes again, `test_schema_oracle` fails loudly.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import hypothesis_jsonschema
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.internal.conjecture.utils import many
from hypothesis_jsonschema import _from_schema


class _Many(many):
    _steps: Iterator[None] | None = None

    def more(self) -> bool:
        if self._steps is None:
            self.__enter__()
            self._steps = iter(self)
        for _ in self._steps:
            return True
        self.__exit__(None)
        return False


if not hasattr(many, "more"):
    vars(_from_schema)["cu"] = SimpleNamespace(many=_Many)


def instances_of(schema: Any) -> st.SearchStrategy[Any]:
    """Return instances; an empty strategy where that library finds none for the schema."""
    try:
        found: st.SearchStrategy[Any] = hypothesis_jsonschema.from_schema(schema)
        found.validate()
    except (InvalidArgument, ValueError):
        return st.nothing()
    return found
