"""From schema files to contracts: the only place where schemas meet the validator of device data."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jsonschema_rs

from mqttproxy.config.errors import Fault
from mqttproxy.config.model import PayloadSettings
from mqttproxy.validation.budget import make_plan
from mqttproxy.validation.contract import MASK, Contract
from mqttproxy.validation.drafts import Draft
from mqttproxy.validation.expressions import OPTIONS
from mqttproxy.validation.files import SchemaFiles
from mqttproxy.validation.graph import Graph
from mqttproxy.validation.library import Document, Library
from mqttproxy.validation.nodes import Node, tables
from mqttproxy.validation.words import MESSAGE_LENGTH, pointer, printable

_POINTER_SAFE: Final = "/~!$&'()*+,;=:@"


def compile_contracts(
    wanted: Mapping[str, str],
    files: SchemaFiles,
    directory: Path,
    settings: PayloadSettings,
    file: str,
    *,
    checked: bool = False,
) -> tuple[dict[str, Contract], list[Fault]]:
    """Read, check and compile schemas.

    Args:
        wanted: subject@version, and the key of the setting that names it.
        files: the schema folder.
        directory: its path, for words.
        settings: the bounds of a payload.
        file: the file of the settings, for words.
        checked: another process has checked them, see `Library`.

    Returns:
        Contracts by name, and all that is wrong with any of them.

    """
    library = Library(files, directory, checked)
    found = {name: library.add(name, key, file) for name, key in wanted.items()}
    graph = Graph(library)
    graph.build()
    if library.faults:
        return {}, library.faults
    documents = {name: document for name, document in found.items() if document is not None}
    return _contracts(documents, library, graph, settings)


def _contracts(
    documents: Mapping[str, Document], library: Library, graph: Graph, settings: PayloadSettings
) -> tuple[dict[str, Contract], list[Fault]]:
    costs = tables(graph.order, Node.judging)
    explanations = tables(graph.order, Node.explaining)
    registry = _registry(library.documents.values())
    contracts, faults = {}, []
    for name, document in documents.items():
        node = graph.of(document)
        try:
            contracts[name] = Contract(
                name,
                validator=_compiled(document.draft, document.schema, registry, document.uri),
                plan=make_plan(node, costs[node]),
                node=node,
                explanations=explanations,
                validator_of=_part_compiler(document.draft, registry),
                max_depth=settings.json_depth,
                max_items=settings.json_items,
            )
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            # Whatever jsonschema does not know but jsonschema-rs minds.
            place = error.instance_path if isinstance(error, jsonschema_rs.ValidationError) else []
            words = printable(str(error).partition("\n")[0], MESSAGE_LENGTH)
            faults.append(Fault(library.name(document.path), pointer(place), words, "valid JSON Schema"))
    return contracts, faults


def _registry(documents: Iterable[Document]) -> jsonschema_rs.Registry:
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
        return _compiled(draft, {"$ref": f"{node.uri}#{quote(place, _POINTER_SAFE)}"}, registry, "")

    return compile_part
