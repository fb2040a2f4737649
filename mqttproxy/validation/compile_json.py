"""JSON Schemas to contracts: the only place where they meet the validator of device data."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

import jsonschema_rs

from mqttproxy.config.errors import Fault
from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.budget import make_plan
from mqttproxy.validation.drafts import Draft
from mqttproxy.validation.expressions import OPTIONS
from mqttproxy.validation.graph import Graph
from mqttproxy.validation.json_contract import MASK, JsonContract
from mqttproxy.validation.library import Document, Library
from mqttproxy.validation.nodes import Node, tables
from mqttproxy.validation.registry import Registry, Version
from mqttproxy.validation.words import MESSAGE_LENGTH, pointer, printable

POINTER_SAFE: Final = "/~!$&'()*+,;=:@"


def compile_versions(
    versions: Mapping[Version, str], registry: Registry, settings: PayloadSettings, file: str, *, checked: bool
) -> tuple[dict[Version, JsonContract], list[Fault]]:
    """Read, check and compile JSON Schemas, see `compile_contracts`."""
    library = Library(registry.files, registry.directory, checked)
    found = {version: library.add(version.name, key, file) for version, key in versions.items()}
    graph = Graph(library)
    graph.build()
    if library.faults:
        return {}, library.faults
    documents = {version: document for version, document in found.items() if document is not None}
    return _contracts(documents, library, graph, settings)


def _contracts(
    documents: Mapping[Version, Document], library: Library, graph: Graph, settings: PayloadSettings
) -> tuple[dict[Version, JsonContract], list[Fault]]:
    costs = tables(graph.order, Node.judging)
    explanations = tables(graph.order, Node.explaining)
    resources = resources_of(library.documents.values())
    contracts, faults = {}, []
    for version, document in documents.items():
        node = graph.of(document)
        try:
            contracts[version] = JsonContract(
                version.name,
                validator=_compiled(document.draft, document.schema, resources, document.uri),
                plan=make_plan(node, costs[node]),
                node=node,
                explanations=explanations,
                validator_of=_part_compiler(document.draft, resources),
                max_depth=settings.json_depth,
                max_items=settings.json_items,
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            # Whatever jsonschema does not know but jsonschema-rs minds.
            place = error.instance_path if isinstance(error, jsonschema_rs.ValidationError) else []
            words = printable(str(error).partition("\n")[0], MESSAGE_LENGTH)
            faults.append(Fault(library.name(document.path), pointer(place), words, "valid JSON Schema"))
    return contracts, faults


def resources_of(documents: Iterable[Document]) -> jsonschema_rs.Registry:
    """Return the closed registry of all documents of a library."""
    resources = [(document.uri, document.schema) for document in documents]
    return jsonschema_rs.Registry(resources, draft=jsonschema_rs.Draft202012)


def _compiled(
    draft: Draft, schema: dict[str, Any], registry: jsonschema_rs.Registry, uri: str
) -> jsonschema_rs.Validator:
    return draft.compiler(
        schema,
        registry=registry,
        base_uri=uri,
        offline=True,  # a closed registry: nothing is fetched, whatever a reference says
        validate_formats=True,
        pattern_options=OPTIONS,
        mask=MASK,
    )


def _part_compiler(draft: Draft, registry: jsonschema_rs.Registry) -> Callable[[Node], jsonschema_rs.Validator]:
    """Return what compiles a single schema of a document, to find out which part of a large payload fails."""

    def compile_part(node: Node) -> jsonschema_rs.Validator:
        place = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in node.place)
        return _compiled(draft, {"$ref": f"{node.uri}#{quote(place, POINTER_SAFE)}"}, registry, "")

    return compile_part
