"""The judge: what a message must be, and the verdict on it. Computes only; schema files come in through `SchemaFiles`.

judge        `judge`: message, identity and generation in, verdict out
generation   `Generation`: the rules in force, up and `down`; `build_generation`
verdict      `Verdict`, `Action`, `Failure`
behaviour    what devices do over time: rules that remember
identity     `Identity`: who sent the message; `identity_of_upstream`
answers      a verdict in words, for devices
gate, scan   what a JSON payload must be before its schema is looked at
contract     a schema at work: judging within a budget, explaining with JSON Pointers
budget, nodes, graph   what judging and explaining can cost, computed from the schema
files, library, drafts, metaschemas, expressions, compile   from schema files to contracts
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
