"""The drafts of JSON Schema that are understood, and the check of a schema against the rules of its draft."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import jsonschema_rs
from attrs import frozen
from jsonschema import Draft4Validator, Draft6Validator, Draft7Validator, Draft201909Validator, Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped] # comes without types
from referencing.jsonschema import DRAFT4, DRAFT6, DRAFT7, DRAFT201909, DRAFT202012, SchemaResource

from mqttproxy.validation.nodes import Schema
from mqttproxy.validation.words import MESSAGE_LENGTH, pointer, printable

_FAULTS_TOLD: Final = 20  # of one schema file


@frozen
class Draft:
    """One draft, as each of the three libraries calls it."""

    checker: Any  # jsonschema's validator class of the draft; its type is a protocol that has no constructor
    compiler: type[jsonschema_rs.Validator]
    specification: Any  # referencing's, generic in a way that cannot be written down here
    id_keyword: str = "$id"
    reference_alone: bool = True  # what stands beside `$ref` does not count

    def resource(self, schema: Schema) -> SchemaResource:
        """Return a schema as `referencing` wants it."""
        resource: SchemaResource = self.specification.create_resource(schema)
        return resource

    def faults(self, schema: Schema) -> Iterator[tuple[str, str]]:
        """Yield JSON Pointer and words for what the draft does not allow in a schema."""
        checker = self.checker(self.checker.META_SCHEMA, registry=REGISTRY)  # closed: holds the drafts, fetches nothing
        for error in islice(checker.iter_errors(schema), _FAULTS_TOLD):
            inner = best_match([error]) or error
            yield pointer(inner.absolute_path), printable(inner.message, MESSAGE_LENGTH)


DEFAULT: Final = "https://json-schema.org/draft/2020-12/schema"

# By what stands in `$schema`, without the empty fragment that old drafts have at the end.
DRAFTS: Final = {
    "http://json-schema.org/draft-04/schema": Draft(Draft4Validator, jsonschema_rs.Draft4Validator, DRAFT4, "id"),
    "http://json-schema.org/draft-06/schema": Draft(Draft6Validator, jsonschema_rs.Draft6Validator, DRAFT6),
    "http://json-schema.org/draft-07/schema": Draft(Draft7Validator, jsonschema_rs.Draft7Validator, DRAFT7),
    "https://json-schema.org/draft/2019-09/schema": Draft(
        Draft201909Validator, jsonschema_rs.Draft201909Validator, DRAFT201909, reference_alone=False
    ),
    DEFAULT: Draft(Draft202012Validator, jsonschema_rs.Draft202012Validator, DRAFT202012, reference_alone=False),
}


def draft_of(name: object) -> Draft | None:
    """Return the draft that `$schema` names, or None: it is not one of ours."""
    return DRAFTS.get(name.removesuffix("#")) if isinstance(name, str) else None
