"""Schemas held against the rules of their draft by `jsonschema`, which finds the better words for their authors.

It takes its time, and 3 MB: so it works in a process that checks, and is not imported by one that runs.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from jsonschema import validators
from jsonschema.exceptions import best_match
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped] # comes without types

from mqttproxy.validation.nodes import Schema
from mqttproxy.validation.words import MESSAGE_LENGTH, pointer, printable

_FAULTS_TOLD: Final = 20  # of one schema file


def faults(draft: str, schema: Schema) -> Iterator[tuple[str, str]]:
    """Yield JSON Pointer and words for what a draft, named as in `$schema`, does not allow in a schema."""
    checker: Any = validators.validator_for({"$schema": draft})
    # A closed registry: it holds the drafts, and fetches nothing.
    for error in islice(checker(checker.META_SCHEMA, registry=REGISTRY).iter_errors(schema), _FAULTS_TOLD):
        inner = best_match([error]) or error
        yield pointer(inner.absolute_path), printable(inner.message, MESSAGE_LENGTH)
