"""What a verdict costs, for each kind of check: `python -m bench.judging`.

Documents are about 1 KB of JSON unless the row says otherwise. Times are processor time, for the machine may be shared.
The ratio is to a bare `Contract.failures` of the row's schema, or else of the JSON Schema, and the same payload in the
same turn, because machines differ and are noisy; the table has medians of the turns. Exit 1: a 99th percentile at 1 KB
is not below 1 ms, or one JSON Schema costs more than it should beside its own contract.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import orjson
from attrs import frozen

from bench.speed import machine
from mqttproxy.config.model import (
    Bytes,
    Conditions,
    ExpressionSettings,
    PolicySettings,
    ProxyConfig,
    RequireSettings,
    Seconds,
    WhenSettings,
)
from mqttproxy.mqtt.packets import NO_PROPERTIES, Message, Properties
from mqttproxy.validation import Generation, Identity, build_generation, judge
from mqttproxy.validation.checks import SchemaCheck
from mqttproxy.validation.contract import Contract
from mqttproxy.validation.protoc import compile_protos

SLOWEST: Final = 1e-3  # seconds, the 99th percentile at 1 KB
DEAREST: Final = 1.5  # of one JSON Schema beside its own contract
SMALL: Final = {"celsius": 21.5, "unit": "C", "at": 1732000000}
MEDIUM: Final = {**SMALL, "device": "tx9-2.1-0001", "readings": [{"at": at, "celsius": 20.5} for at in range(30)]}
LARGE: Final = {**SMALL, "readings": [{"at": at, "celsius": 20.5, "note": "x" * 20} for at in range(250)]}
MEMBERS: Final = {"celsius": {"type": "number", "minimum": -40, "maximum": 125}, "at": {"type": "integer"}}
READING: Final = {"type": "object", "required": ["celsius"], "properties": MEMBERS}
SCHEMA: Final = {**READING, "properties": {**MEMBERS, "readings": {"type": "array", "items": READING}}}
PROTO: Final = b"""syntax = "proto3";
message Reading { int64 at = 1; double celsius = 2; }
message Report {
  double celsius = 1; string unit = 2; int64 at = 3; string device = 4; repeated Reading readings = 5;
}
"""
RECORD: Final = {
    "type": "record",
    "name": "Reading",
    "fields": [{"name": "at", "type": "long"}, {"name": "celsius", "type": "double"}],
}
AVRO: Final = {
    "type": "record",
    "name": "Report",
    "fields": [
        {"name": "celsius", "type": "double"},
        {"name": "unit", "type": "string"},
        {"name": "at", "type": "long"},
        {"name": "device", "type": "string"},
        {"name": "readings", "type": {"type": "array", "items": RECORD}},
    ],
}
FILES: Final = {
    "t/1.json": orjson.dumps(SCHEMA),
    "p/subject.toml": b'[protobuf]\nmessage = "Report"\n',
    "p/1.proto": PROTO,
    "a/1.avsc": orjson.dumps(AVRO),
}
IDENTITY: Final = Identity("tx9-2.1-0001", "plant-1", "192.0.2.1", "tls", {"model": "tx9", "firmware": "2.1"})
NEW: Final = Conditions((("firmware", (">=2.1",)),))
REQUIRE: Final = RequireSettings(
    qos=(0, 1),
    content_type=("application/*",),
    user_properties=("trace",),
    max_expiry=Seconds(60.0),
    max_bytes=Bytes(9999),
)
PROPERTIES: Final = Properties(
    content_type="application/json", user_properties=(("trace", "1"),), message_expiry_interval=60
)
CEL: Final = (ExpressionSettings(expression="captures.device == identity.client_id && payload.celsius > -40.0"),)
WALK: Final = (ExpressionSettings(expression="payload.readings.all(r, r.celsius > -40.0)"),)


class Shelf:
    """The schemas, one of each kind."""

    def read(self, path: str) -> bytes:
        """Return a file."""
        if path not in FILES:
            raise FileNotFoundError(path)
        return FILES[path]

    def names(self) -> list[str]:
        """Return all paths."""
        return list(FILES)

    def used(self) -> Mapping[str, str]:
        """Return that nothing was in force before."""
        return {}

    def use(self, hashes: Mapping[str, str]) -> None:
        """Forget what is."""

    def descriptors(self, sources: Mapping[str, bytes], root: str) -> bytes:
        """Compile Protobuf."""
        return compile_protos(sources, root, 30.0)


@frozen
class Row:
    """One line of the table."""

    name: str
    policies: tuple[Mapping[str, Any], ...]
    document: Mapping[str, Any] = MEDIUM
    properties: Properties = NO_PROPERTIES
    is_measured: bool = True  # its 99th percentile counts


ONE: Final = {"schema": "t@1"}
ROWS: Final = (
    Row("one JSON Schema, 48 B", (ONE,), SMALL),
    Row("one JSON Schema", (ONE,)),
    Row("one JSON Schema, 14 KB", (ONE,), LARGE, is_measured=False),
    Row("the same, and a selector by firmware", ({**ONE, "when": WhenSettings(attributes=NEW)},)),
    Row("the same, for half of the devices", ({**ONE, "percent": 50.0},)),
    Row("format json, no schema", ({"format": "json"},)),
    Row("attributes only", ({"require": REQUIRE},), properties=PROPERTIES),
    Row("JSON Schema and attributes", ({**ONE, "require": REQUIRE},), properties=PROPERTIES),
    Row("CEL, two comparisons", ({"format": "json", "expressions": CEL},)),
    Row("CEL, over 30 readings", ({"format": "json", "expressions": WALK},)),
    Row("JSON Schema and CEL", ({**ONE, "expressions": CEL},)),
    Row("Protobuf, 0.6 KB", ({"schema": "p@1"},)),
    Row("Protobuf and CEL", ({"schema": "p@1", "expressions": CEL},)),
    Row("Avro, 0.4 KB", ({"schema": "a@1"},)),
    Row("Avro and CEL", ({"schema": "a@1", "expressions": CEL},)),
    Row("three policies with a JSON Schema each", (ONE, ONE, ONE)),
)


def rules_of(row: Row) -> Generation:
    """Return the generation of a row."""
    policies = tuple(
        PolicySettings(**{"name": f"p{number}", "topics": ("sensor/{device}/t",), **settings})
        for number, settings in enumerate(row.policies)
    )
    return build_generation(1, ProxyConfig(policies=policies), Shelf())


def contract_of(rules: Generation) -> Contract | None:
    """Return the schema that a row is about, if it is about one."""
    checks = (check for policy in rules.policies for check in policy.checks)
    return next((check.contract for check in checks if isinstance(check, SchemaCheck)), None)


def measure(call: Callable[[], object], calls: int) -> list[float]:
    """Return the processor seconds of each of many calls, sorted."""
    now, times = time.thread_time, []  # what other processes take is not our cost
    for _ in range(calls):
        began = now()
        call()
        times.append(now() - began)
    return sorted(times)


def main() -> int:
    """Measure and print; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000, help="of each row in one turn")
    parser.add_argument("--repeat", type=int, default=5, help="turns; the table has medians")
    arguments = parser.parse_args()
    alone = rules_of(ROWS[1]).scope_of("sensor/x/t").contract
    assert alone is not None
    print(f"{machine()}\n\n| check | µs a message | of the bare schema | p99 µs |\n|---|---|---|---|")
    missed = []
    for row in ROWS:
        rules = rules_of(row)
        contract = contract_of(rules) or alone
        payload = contract.encode(dict(row.document))
        message = Message("sensor/tx9-2.1-0001/t", payload, 1, properties=row.properties)
        assert not judge(message, IDENTITY, rules).failures
        medians, ratios, tails = [], [], []
        for _ in range(arguments.repeat):
            bare = measure(partial(contract.failures, payload), arguments.calls)
            whole = measure(partial(judge, message, IDENTITY, rules), arguments.calls)
            medians.append(whole[len(whole) // 2])
            ratios.append(whole[len(whole) // 2] / bare[len(bare) // 2])
            tails.append(whole[len(whole) * 99 // 100])
        median, ratio, tail = (statistics.median(figures) for figures in (medians, ratios, tails))
        print(f"| {row.name} | {median * 1e6:.2f} | {ratio:.2f} | {tail * 1e6:.1f} |", flush=True)
        if row.is_measured and tail >= SLOWEST:
            missed.append(f"{row.name}: the 99th percentile is {tail * 1e3:.2f} ms")
        if row.policies == (ONE,) and ratio > DEAREST:
            missed.append(f"{row.name}: {ratio:.2f} times its contract")
    print("\n" + ("missed: " + "; ".join(missed) if missed else "all below 1 ms"))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
