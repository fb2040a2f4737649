"""A schema folder in memory, and generations made of it."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from mqttproxy.config.model import DefaultSettings, PayloadSettings, PolicySettings, ProxyConfig, TopicSettings
from mqttproxy.mqtt.packets import Message, Properties
from mqttproxy.validation import Generation, Identity, Rules, Verdict, build_generation, judge
from mqttproxy.validation.checks import SchemaCheck
from mqttproxy.validation.contract import Contract
from mqttproxy.validation.json_contract import JsonContract
from mqttproxy.validation.protoc import compile_protos

SENDER = Identity("dev-1", None, "192.0.2.1", "plain")


@lru_cache
def compiled(sources: tuple[tuple[str, bytes], ...], root: str) -> bytes:
    return compile_protos(dict(sources), root, 30.0)


class Shelf:
    """Files by path: bytes as they are, everything else as JSON."""

    def __init__(self, files: Mapping[str, Any]) -> None:
        self.files = {path: value if isinstance(value, bytes) else orjson.dumps(value) for path, value in files.items()}
        self.asked: list[str] = []
        self.remembered: dict[str, str] = {}  # content hashes by path, from before
        self.in_use: dict[str, str] = {}

    def read(self, path: str) -> bytes:
        self.asked.append(path)
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", path) from None

    def names(self) -> Iterable[str]:
        return self.files

    def used(self) -> Mapping[str, str]:
        return self.remembered

    def use(self, hashes: Mapping[str, str]) -> None:
        self.in_use.update(hashes)

    def descriptors(self, sources: Mapping[str, bytes], root: str) -> bytes:
        return compiled(tuple(sorted(sources.items())), root)


def policy(schema: str | None = "t@1", **settings: Any) -> PolicySettings:
    return PolicySettings(**{"name": "p", "topics": ("t",), "schema": schema, **settings})


def generation(
    files: Mapping[str, Any] | Shelf,
    *policies: PolicySettings,
    default: DefaultSettings | None = None,
    topics: TopicSettings | None = None,
    payload: PayloadSettings | None = None,
    checked: bool = False,
) -> Generation:
    config = ProxyConfig(
        policies=policies,
        default=default or DefaultSettings(),
        topics=topics or TopicSettings(),
        payload=payload or PayloadSettings(),
    )
    return build_generation(1, config, files if isinstance(files, Shelf) else Shelf(files), checked=checked)


def contract_of(rules: Rules, topic: str = "t") -> Contract:
    """Return the contract of the only policy of a topic."""
    scope = rules.scope_of(topic)
    if scope.contract is not None:
        return scope.contract
    (check,) = scope.seats[0].policy.checks
    assert isinstance(check, SchemaCheck)
    return check.contract


def contract(schema: Any, others: Mapping[str, Any] | None = None, **payload: Any) -> JsonContract:
    """Return the contract of one schema, on the topic `t`."""
    rules = generation({"t/1.json": schema, **(others or {})}, policy(), payload=PayloadSettings(**payload))
    found = rules.scope_of("t").contract
    assert isinstance(found, JsonContract)
    return found


def verdict_on(rules: Rules, payload: bytes, topic: str = "t", **properties: Any) -> Verdict:
    return judge(Message(topic, payload, properties=Properties(**properties)), SENDER, rules)
