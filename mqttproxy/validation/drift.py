"""How far what devices send has moved from the JSON Schemas that are bound to it. Computes only.

A schema that lets more members through than it names says nothing of what a new firmware adds. `Drift` looks for such
members in some of the messages, and counts those that failed, policy by policy, over the last `WINDOW` of them.
"""

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from attrs import Factory, define, field, frozen

from mqttproxy.mqtt.packets import Message
from mqttproxy.validation.checks import SchemaCheck
from mqttproxy.validation.gate import PayloadError
from mqttproxy.validation.generation import Rules, taking_part
from mqttproxy.validation.identity import Identity
from mqttproxy.validation.json_contract import JsonContract
from mqttproxy.validation.nodes import Node
from mqttproxy.validation.verdict import Verdict
from mqttproxy.validation.words import Json, pointer

WINDOW: Final = 1000  # messages of each policy
MOST_PLACES: Final = 64  # that are remembered as told, of each policy
MOST_FOUND: Final = 16  # of one message


@frozen
class Share:
    """Of the messages in a window: how many there are, and which share has members without a name, or failed."""

    messages: int
    unknown: float
    failed: float


@define(eq=False)
class _Window:
    schemas: tuple[str, ...]
    found: "deque[tuple[bool, bool]]" = field(factory=lambda: deque(maxlen=WINDOW))
    told: set[str] = Factory(set)

    def share(self) -> Share:
        found = tuple(self.found)  # another thread may add to it meanwhile
        count = len(found) or 1
        return Share(len(found), sum(one for one, _ in found) / count, sum(one for _, one in found) / count)


@define(eq=False)
class Drift:
    """What was found so far, by policy. It begins anew for a policy that gets another schema."""

    _windows: dict[str, _Window] = Factory(dict)
    _generation: int = -1

    def look(
        self, message: Message, identity: Identity, verdict: Verdict, rules: Rules, generation: int
    ) -> list[tuple[str, str]]:
        """Look at one message; return policies and places that are new, as JSON Pointers.

        Args:
            message: as it came.
            identity: who sent it.
            verdict: of the judge.
            rules: in force.
            generation: their number.

        """
        if generation != self._generation:
            self._generation = generation
            self._keep(rules)
        if rules.fixed_scope(message.topic) is not None:
            return []
        reached = [rules.policies[position] for position in sorted(rules.reached(message.topic))]
        failed = {part.policy for part in verdict.parts or (verdict,) if part.failures}
        new = []
        for policy, _ in taking_part(reached, identity):
            window = self._windows.get(policy.name)
            if window is None or policy.level == "off":
                continue
            contracts = [check.contract for check in policy.checks if isinstance(check, SchemaCheck)]
            places = _look(message.payload, contracts)
            window.found.append((bool(places), policy.name in failed))
            for place in places:
                if place not in window.told and len(window.told) < MOST_PLACES:
                    window.told.add(place)
                    new.append((policy.name, place))
        return new

    def shares(self) -> dict[str, Share]:
        """Return what was found, of each policy with a JSON Schema that a message was looked at for."""
        return {name: window.share() for name, window in self._windows.copy().items() if window.found}

    def _keep(self, rules: Rules) -> None:
        windows: dict[str, _Window] = {}
        for policy in rules.policies:
            contracts = [check.contract for check in policy.checks if isinstance(check, SchemaCheck)]
            schemas = tuple(contract.name for contract in contracts if isinstance(contract, JsonContract))
            if schemas and policy.direction in (rules.direction, "both"):
                known = self._windows.get(policy.name)
                windows[policy.name] = known if known and known.schemas == schemas else _Window(schemas)
        self._windows = windows


def _look(payload: bytes, contracts: Iterable[object]) -> list[str]:
    """Return the places of a payload that no schema names."""
    places: list[str] = []
    for contract in contracts:
        if isinstance(contract, JsonContract):
            with suppress(PayloadError):  # it is no JSON, or too much to be looked at
                places += unnamed(contract.document(payload), contract.node)
    return places


def unnamed(document: Json, node: Node) -> list[str]:
    """Return places in a document that its schema does not name, as JSON Pointers with `*` for items; at most 16.

    Objects of which the schema names no member, or all (`patternProperties`, a schema for `additionalProperties`), are
    not looked into.
    """
    found: dict[str, None] = {}
    waiting: list[tuple[Json, tuple[Node, ...], tuple[str, ...]]] = [(document, (node,), ())]
    while waiting and len(found) < MOST_FOUND:
        value, nodes, path = waiting.pop()
        judging = _judging(nodes)
        if isinstance(value, dict):
            names = {name for one in judging for name in _map(one, "properties")}
            if not names or any(_names_all(one) for one in judging):
                continue
            found.update((pointer((*path, name)), None) for name in value if name not in names)
            for name, member in value.items():
                if isinstance(member, dict | list):
                    below = tuple(one.properties[name] for one in judging if name in one.properties)
                    waiting.append((member, below, (*path, name)))
        elif isinstance(value, list):
            below = tuple(one.items for one in judging if one.items is not None)
            if below:
                waiting += [(item, below, (*path, "*")) for item in value if isinstance(item, dict | list)]
    return list(found)[:MOST_FOUND]


def _judging(nodes: Iterable[Node]) -> list[Node]:
    """Return all schemas that have a say in the same value."""
    seen: dict[Node, None] = dict.fromkeys(nodes)
    waiting = list(seen)
    while waiting:
        for node in waiting.pop().same:
            if node not in seen:
                seen[node] = None
                waiting.append(node)
    return list(seen)


def _names_all(node: Node) -> bool:
    schema = node.schema
    more = (schema.get("additionalProperties"), schema.get("unevaluatedProperties"))
    return bool(_map(node, "patternProperties")) or any(isinstance(one, dict) for one in more)


def _map(node: Node, keyword: str) -> Iterable[str]:
    value = node.schema.get(keyword)
    return value if isinstance(value, dict) else ()
