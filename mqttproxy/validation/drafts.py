"""The drafts of JSON Schema that are understood."""

from collections.abc import Iterator
from typing import Any, Final

import jsonschema_rs
from attrs import frozen
from referencing.jsonschema import DRAFT4, DRAFT6, DRAFT7, DRAFT201909, DRAFT202012, SchemaResource

from mqttproxy.validation.nodes import Schema
from mqttproxy.validation.words import MESSAGE_LENGTH, pointer, printable


@frozen
class Draft:
    """One draft, as each of the libraries calls it."""

    name: str  # what stands in `$schema`, without the empty fragment that old drafts have at the end
    compiler: type[jsonschema_rs.Validator]
    specification: Any  # referencing's, generic in a way that cannot be written down here
    id_keyword: str = "$id"
    reference_alone: bool = True  # what stands beside `$ref` does not count

    def resource(self, schema: Schema) -> SchemaResource:
        """Return a schema as `referencing` wants it."""
        resource: SchemaResource = self.specification.create_resource(schema)
        return resource

    def first_fault(self, schema: Schema) -> Iterator[tuple[str, str]]:
        """Yield JSON Pointer and words for the first thing that the draft does not allow in a schema."""
        try:
            jsonschema_rs.meta.validate({"$schema": self.name, **schema})
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            place = error.instance_path if isinstance(error, jsonschema_rs.ValidationError) else []
            yield pointer(place), printable(str(error).partition("\n")[0], MESSAGE_LENGTH)


DEFAULT: Final = "https://json-schema.org/draft/2020-12/schema"

DRAFTS: Final = {
    draft.name: draft
    for draft in (
        Draft("http://json-schema.org/draft-04/schema", jsonschema_rs.Draft4Validator, DRAFT4, "id"),
        Draft("http://json-schema.org/draft-06/schema", jsonschema_rs.Draft6Validator, DRAFT6),
        Draft("http://json-schema.org/draft-07/schema", jsonschema_rs.Draft7Validator, DRAFT7),
        Draft(
            "https://json-schema.org/draft/2019-09/schema",
            jsonschema_rs.Draft201909Validator,
            DRAFT201909,
            reference_alone=False,
        ),
        Draft(DEFAULT, jsonschema_rs.Draft202012Validator, DRAFT202012, reference_alone=False),
    )
}


def draft_of(name: object) -> Draft | None:
    """Return the draft that `$schema` names, or None: it is not one of ours."""
    return DRAFTS.get(name.removesuffix("#")) if isinstance(name, str) else None
