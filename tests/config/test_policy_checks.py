"""Cross-checks of policies and attributes, with the exact sentences."""

# ruff: noqa: E501 # sentences stand as they are told

import pytest

from mqttproxy.config.references import WORDS
from tests.config.documents import faults, parse

NAMES = "a name of letters, digits and underscores"
CONDITION = 'a glob such as "tx-*", or a comparison such as ">=2.1, <3"'
PATTERN = 'expected a pattern such as "{model}-{firmware}-+"; '
HEAD = '[[policies]]\nname = "p"\ntopics = ["t"]\n'
GOOD = HEAD + 'format = "raw"\n'
SHADOWED = GOOD + "[policies.shadow]\n"
LATER = '[[policies]]\nname = "later"\ntopics = ["t"]\nlevel = "off"\nformat = "raw"\n'
BOUND = HEAD + "schema = 't@1'\n[[policies.bindings]]\n"
ATTRIBUTES = "[[access.attributes]]\n"

BAD = [
    (
        HEAD,
        (
            "policies[0]: found nothing to judge by, expected schema, format, require, expressions or plugins; "
            'format = "raw" '
            "lets everything through"
        ),
    ),
    (
        HEAD + 'format = "avro"',
        'policies[0].format: found "avro", expected a schema too; without one nobody can read it',
    ),
    (
        HEAD + 'format = "text"\nschema = "t@1"',
        (
            'policies[0].format: found "text", expected no schema beside it; a schema says what JSON, Protobuf or Avro must be'
        ),
    ),
    (
        HEAD + 'format = "xml"',
        'policies[0].format: found "xml", expected one of "json", "protobuf", "avro", "text", "raw", "none"',
    ),
    (GOOD + "percent = 101", "policies[0].percent: found 101, expected 0 to 100"),
    (GOOD + "percent = -0.5", "policies[0].percent: found -0.5, expected 0 to 100"),
    (
        GOOD + 'percent = 5\ndirection = "down"',
        (
            'policies[0].percent: found 5, expected 100, because direction is "down"; its messages come from upstreams, so there '
            "are no devices to choose from"
        ),
    ),
    (GOOD + "priority = 1.5", "policies[0].priority: found 1.5, expected a whole number"),
    (
        GOOD.replace('"t"', '"a/{b}/x{c}"'),
        (
            'policies[0].topics[0]: found "a/{b}/x{c}", expected a valid topic filter; a {name}, of letters, digits and '
            "underscores, fills its level"
        ),
    ),
    (
        GOOD.replace('"t"', '"{b}/{b}"'),
        'policies[0].topics[0]: found "{b}/{b}", expected a valid topic filter; each {name} stands once',
    ),
    (
        GOOD.replace('"t"', '"{b}/#/c"'),
        (
            "policies[0].topics[0]: found \"{b}/#/c\", expected a valid topic filter; '#' is not the last level of the topic "
            "filter"
        ),
    ),
    (
        GOOD + "[policies.when]\nclient_id = []",
        "policies[0].when.client_id: found an empty list, expected at least one text; it would fit nobody",
    ),
    (
        GOOD + "[policies.when]\nlistener = ['']",
        ('policies[0].when.listener[0]: found "", expected a text, in which * stands for any run of characters'),
    ),
    (
        GOOD + "[policies.when.attributes]",
        ("policies[0].when.attributes: found an empty table, expected at least one attribute"),
    ),
    (
        GOOD + "[policies.when.attributes]\nfirmware = '>=new'",
        f'policies[0].when.attributes.firmware: found ">=new", expected {CONDITION}',
    ),
    (GOOD + "[policies.when.attributes]\n'a b' = 'x'", f'policies[0].when.attributes: found "a b", expected {NAMES}'),
    (
        GOOD + "[policies.when.attributes]\na = 5",
        ("policies[0].when.attributes: found a table, expected a table of names, and a text or some texts for each"),
    ),
    (
        GOOD + "[policies.when.attributes]\na = []",
        ("policies[0].when.attributes: found a table, expected a table of names, and a text or some texts for each"),
    ),
    (
        GOOD + "[policies.when]\nclient = ['a']",
        'policies[0].when.client: found an unknown key; did you mean "client_id"?',
    ),
    (GOOD + "[policies.require]\nqos = [3]", "policies[0].require.qos: found [3], expected some of 0, 1 and 2"),
    (GOOD + "[policies.require]\nqos = []", "policies[0].require.qos: found [], expected some of 0, 1 and 2"),
    (
        GOOD + "[policies.require]\nuser_properties = ['']",
        "policies[0].require.user_properties: found an empty text, expected at least one text, none empty",
    ),
    (
        GOOD + "[policies.require]\nmin_bytes = 5\nmax_bytes = 4",
        "policies[0].require.max_bytes: found 4, expected at least min_bytes, which is 5",
    ),
    (
        HEAD + "[[policies.expressions]]\nexpression = 'payload.x > 1'",
        (
            "policies[0].format: found nothing, expected what the payload is, or a schema; expressions ask for the payload"
        ),
    ),
    (
        GOOD + "[[policies.expressions]]\nexpression = ' '",
        'policies[0].expressions[0].expression: found " ", expected a condition in CEL',
    ),
    (
        GOOD + f"[[policies.expressions]]\nexpression = '{'1' * 4097}'",
        "policies[0].expressions[0].expression: found 4097 characters, expected at most 4096",
    ),
    (
        SHADOWED + 'schema = "t"',
        'policies[0].shadow.schema: found "t", expected subject@version such as "temperature@1", "temperature@stable" or "temperature@>=1,<3"',
    ),
    (
        SHADOWED + 'schema = "t@2"\npolicy = "later"\n' + LATER,
        "policies[0].shadow: found both schema and policy, expected one of them; a candidate policy has a schema of its own",
    ),
    (SHADOWED + "percent = 5", "policies[0].shadow: found no candidate, expected schema or policy"),
    (
        SHADOWED + 'schema = "t@2"\npercent = 0',
        "policies[0].shadow.percent: found 0, expected more than 0 and at most 100",
    ),
    (
        SHADOWED + 'policy = "latter"\n' + LATER,
        'policies[0].shadow.policy: found "latter", expected the name of a policy; did you mean "later"?',
    ),
    (SHADOWED + 'policy = "p"', 'policies[0].shadow.policy: found "p", expected another policy than this one'),
    (
        SHADOWED + 'policy = "later"\n' + LATER.replace("off", "observe"),
        'policies[0].shadow.policy: found "later", expected a policy with level = "off"; a candidate is not in force',
    ),
    ("[shadow]\ntime_percent = 90", "shadow.time_percent: found 90, expected more than 0 and at most 50"),
    (
        GOOD + "[[policies.plugins]]\nname = ''",
        'policies[0].plugins[0].name: found "", expected the name of an entry point',
    ),
    (
        GOOD + "[[policies.plugins]]\nname = 'a'\nbudget = 0",
        "policies[0].plugins[0].budget: found 0s, expected more than 0s and at most 36500d",
    ),
    (
        GOOD + 'direction = "both"\n[[policies.plugins]]\nname = "a"',
        (
            'policies[0].direction: found "both", expected "up", because the policy has plugins; plug-ins judge what '
            "devices send: what comes from upstreams cannot wait for them"
        ),
    ),
    (
        BOUND + "schema = 'x'\nwhen = { client_id = ['a'] }",
        (
            f'policies[0].bindings[0].schema: found "x", expected {WORDS}; '
            "names are of letters, digits, dots, hyphens and underscores"
        ),
    ),
    (
        BOUND + "schema = 't@2'",
        (
            "policies[0].bindings[0].when: found nothing, expected whose messages; it would fit everybody: let it be the "
            "schema of the policy"
        ),
    ),
    (
        BOUND + "schema = 't@2'\nwhen = { attributes = { fw = '>=x' } }",
        f'policies[0].bindings[0].when.attributes.fw: found ">=x", expected {CONDITION}',
    ),
    (
        GOOD + "[[policies.bindings]]\nschema = 't@2'\nwhen = { client_id = ['a'] }",
        (
            "policies[0].schema: found nothing, expected a schema for those whom no binding fits; the policy has bindings"
        ),
    ),
    (ATTRIBUTES + "pattern = 'x'", f'access.attributes[0].pattern: found "x", {PATTERN}nothing in it has a {{name}}'),
    (
        ATTRIBUTES + "pattern = '{a}'\nsource = 'connect_property'",
        (
            'access.attributes[0].property: found nothing, expected the name of a user property; source is "connect_property"'
        ),
    ),
    (
        ATTRIBUTES + "pattern = '{a}'\nproperty = 'fw'",
        ('access.attributes[0].property: found "fw", expected no property, unless source is "connect_property"'),
    ),
    (
        "[[listeners]]\nname = 'a'\nbind = 'h:1'\nattributes = { site = 'a/b' }",
        'listeners[0].attributes.site: found "a/b", expected a text without +, # and /',
    ),
    (
        "[[listeners]]\nname = 'a'\nbind = 'h:1'\nattributes = { 'a b' = 'c' }",
        f'listeners[0].attributes: found "a b", expected {NAMES}',
    ),
    (
        "[[listeners]]\nname = 'a'\nbind = 'h:1'\nattributes = { a = 1 }",
        "listeners[0].attributes: found a table, expected a table of names and texts",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_settings_that_do_not_fit_are_told_in_one_exact_sentence(text: str, sentence: str) -> None:
    assert faults(text) == [sentence]


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace('"t"', '"sensor/{device}/+/#", "$SYS/{x}", "+"'),
        GOOD + "percent = 0\npriority = -5\nfinal = true",
        HEAD + "[policies.require]\nqos = [0]",
        HEAD + "[[policies.expressions]]\nexpression = 'topic != identity.client_id'",
        HEAD + "format = \"json\"\n[[policies.expressions]]\nexpression = 'payload.x > 1'",
        HEAD + 'format = "protobuf"\nschema = "t@1"',
        SHADOWED + 'schema = "t@>=2"\npercent = 0.1',
        SHADOWED + 'policy = "later"\n' + LATER,
        HEAD + "[[policies.plugins]]\nname = 'a'\nbudget = '2s'",
        BOUND + "schema = 't@>=2'\n[policies.bindings.when]\nattributes = { fw = '>=2.1' }",
        GOOD + "[policies.when]\nclient_id = ['*']\nattributes = { a = '>=1', b = ['x*', 'y?'] }",
        ATTRIBUTES + "pattern = '{a}-+'\n[[access.attributes]]\nsource = 'username'\npattern = '{b}'",
    ],
)
def test_what_is_allowed_has_no_fault(text: str) -> None:
    assert faults(text) == []


def test_attributes_and_labels_are_kept_in_order() -> None:
    config = parse(
        GOOD + "[policies.when]\nattributes = { b = '1', a = ['x', 'y'] }\n"
        "[[listeners]]\nname = 'l'\nbind = 'h:1'\nattributes = { z = '1', y = '2' }"
    )
    assert config.policies[0].when.attributes == (("b", ("1",)), ("a", ("x", "y")))
    assert config.listeners[0].attributes == (("z", "1"), ("y", "2"))
