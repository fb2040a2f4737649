"""References resolved: the schemas of a library as one graph of nodes, whose edges say who judges what."""

from typing import Any

from attrs import define, field
from referencing import Registry
from referencing.exceptions import Unresolvable

from mqttproxy.config.errors import Fault, quoted
from mqttproxy.validation.drafts import Draft
from mqttproxy.validation.expressions import rate
from mqttproxy.validation.library import HERE, REFERENCES, Document, Library
from mqttproxy.validation.nodes import Node, Schema, Step, inner_schemas, settled
from mqttproxy.validation.words import pointer

Resolver = Any  # referencing's is private and generic


@define
class Graph:
    """Nodes of all documents of a library. `order`: each after those that judge the same value."""

    library: Library
    order: list[Node] = field(init=False, factory=list)
    _nodes: dict[int, Node] = field(init=False, factory=dict)  # by identity of the schema: the library keeps it alive
    _open: list[tuple[Node, Resolver, Document]] = field(init=False, factory=list)
    _rates: dict[str, float | None] = field(init=False, factory=dict)

    def build(self) -> None:
        """Build all nodes. What cannot be resolved or bounded is added to the library's faults."""
        documents = self.library.documents
        resources = [(uri, document.draft.resource(document.schema)) for uri, document in documents.items()]
        registry: Registry[Any] = Registry().with_resources(resources).crawl()
        referring: list[tuple[Node, Resolver, Document]] = []
        for uri, document in documents.items():
            self._node(document.schema, _inside(registry.resolver(uri), document.draft, document.schema), document, ())
            referring += self._grow()
        while referring:
            node, resolver, document = referring.pop()
            for keyword in REFERENCES:
                if isinstance(reference := node.schema.get(keyword), str):
                    self._refer(node, keyword, reference, resolver, document)
            referring += self._grow()
        self._join_dynamic()
        self.order, circular = settled(self._nodes.values())
        for node in circular:
            words = "a reference that leads back to itself without going deeper into the payload"
            self.library.faults.append(Fault(self._name(node), pointer(node.place), words))

    def of(self, document: Document) -> Node:
        """Return the node of a document."""
        return self._nodes[id(document.schema)]

    def _node(self, schema: Schema, resolver: Resolver, document: Document, place: tuple[str | int, ...]) -> Node:
        node = self._nodes.get(id(schema))
        if node is None:
            node = self._nodes[id(schema)] = Node(document.uri, place, schema)
            self._open.append((node, resolver, document))
        return node

    def _grow(self) -> list[tuple[Node, Resolver, Document]]:
        """Add what stands inside of new nodes, and return all that are new."""
        grown = []
        while self._open:
            node, resolver, document = self._open.pop()
            grown.append((node, resolver, document))
            self._weigh_expressions(node, document)
            draft = document.draft
            for step, place, schema in inner_schemas(node.schema, reference_alone=draft.reference_alone):
                inner = self._node(schema, _inside(resolver, draft, schema), document, (*node.place, *place))
                _attach(node, step, place, inner)
        return grown

    def _weigh_expressions(self, node: Node, document: Document) -> None:
        found: list[tuple[tuple[str, ...], Any]] = [(("pattern",), node.schema.get("pattern"))]
        names = node.schema.get("patternProperties", {})
        found += [(("patternProperties", name), name) for name in names] if isinstance(names, dict) else []
        for place, expression in found:
            if not isinstance(expression, str):
                continue
            if expression not in self._rates:
                self._rates[expression] = rate(expression)
            cost = self._rates[expression]
            if cost is not None:
                node.expressions += cost
                continue
            self.library.faults.append(
                Fault(
                    self.library.name(document.path),
                    pointer((*node.place, *place)),
                    quoted(expression),
                    "a regular expression that takes linear time",
                    "look-around and back-references do not; or it is malformed or too large",
                )
            )

    def _refer(self, node: Node, keyword: str, reference: str, resolver: Resolver, document: Document) -> None:
        try:
            resolved = resolver.lookup(reference)
        except (Unresolvable, ValueError):
            key = pointer((*node.place, keyword))
            if (document.path, key) not in self.library.told:
                name = self.library.name(document.path)
                self.library.faults.append(Fault(name, key, quoted(reference), HERE, "nothing is there"))
            return
        if isinstance(resolved.contents, dict):
            # A place that is no place for schemas has no address of its own.
            outside = Document(document.path, "", resolved.contents, document.draft)
            target = self._node(resolved.contents, resolved.resolver, outside, ())
            node.same.append(target)
            if keyword == "$ref":
                node.always.append(target)

    def _join_dynamic(self) -> None:
        """Lead dynamic references to wherever they may lead: which one it is, only the payload decides."""
        nodes = list(self._nodes.values())
        for node in nodes:
            name = str(node.schema.get("$dynamicRef", "")).rpartition("#")[2]
            for other in nodes:
                dynamic = name and other.schema.get("$dynamicAnchor") == name
                recursive = "$recursiveRef" in node.schema and other.schema.get("$recursiveAnchor") is True
                if (dynamic or recursive) and other not in node.same:
                    node.same.append(other)

    def _name(self, node: Node) -> str:
        document = self.library.documents.get(node.uri)
        return self.library.name(document.path) if document else str(self.library.directory)


def _inside(resolver: Resolver, draft: Draft, schema: Schema) -> Resolver:
    return resolver.in_subresource(draft.resource(schema))


def _attach(node: Node, step: Step, place: tuple[str | int, ...], inner: Node) -> None:
    match step:
        case Step.SAME:
            node.same.append(inner)
            if place[0] == "allOf":
                node.always.append(inner)
        case Step.NAMED:
            node.named.setdefault(str(place[0]), []).append(inner)
            if place[0] == "properties":
                node.properties[str(place[1])] = inner
        case Step.BELOW:
            node.below.append(inner)
            if place == ("items",):
                node.items = inner
        case Step.APART:
            pass
