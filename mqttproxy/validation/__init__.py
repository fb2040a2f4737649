"""The judge: what a message must be, and the verdict on it. Computes only; schema files come in through `SchemaFiles`.

judge        `judge`: message, identity and generation in, verdict out
generation   `Generation`: the rules in force, up and `down`; `build_generation`
verdict      `Verdict`, `Action`, `Failure`
behaviour    what devices do over time: rules that remember
identity     `Identity`: who sent the message; `identity_of_upstream`
answers      a verdict in words, for devices
gate, scan   what a JSON payload must be before its schema is looked at
contract     what a schema of any kind is at work; `compile`: from references to contracts
registry, subjects, files, ledger, uses   versions and aliases; what was in force and cannot change; who uses what
json_contract, budget, nodes, graph       JSON Schema: judging within a budget, explaining with JSON Pointers
compile_json, library, drafts, metaschemas, expressions   from JSON Schema files to contracts
protobuf, protojson, wire                 Protobuf payloads
protofiles, protoc, compile_protobuf      from `.proto` files to contracts; the compiler has a process of its own
avro, avroread, compile_avro              Avro
comparing, compare_json, json_sides, compare_protobuf, compare_avro   compatibility of versions, in words
comparison   two sets of rules on the same messages: what would break, what would heal
drift        how far messages have moved from the JSON Schemas that are bound to them
inference    a schema proposed from messages, and how sure it is
words        what a device sent, made safe to show
"""

from mqttproxy.validation.generation import Generation, Rules, build_generation
from mqttproxy.validation.identity import Identity, identity_of_upstream
from mqttproxy.validation.judge import judge
from mqttproxy.validation.verdict import Action, Failure, Verdict

__all__ = [
    "Action",
    "Failure",
    "Generation",
    "Identity",
    "Rules",
    "Verdict",
    "build_generation",
    "identity_of_upstream",
    "judge",
]
