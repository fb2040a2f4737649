"""Cross-checks of everything but listeners and upstreams, with the exact sentences."""

import pytest

from tests.config.documents import UPSTREAM, faults

POLICY = '[[policies]]\nname = "p"\ntopics = ["#"]\nschema = "s@1"\n'
ROUTE = '[[routes]]\ntopics = ["#"]\n'
NAME = "1 to 64 printable characters"
ID = "1 to 64 letters, digits, dots, hyphens and underscores"
SCHEMA = (
    'subject@version such as "temperature@1", "temperature@stable" or "temperature@>=1,<3"; '
    "names are of letters, digits, dots, hyphens and underscores"
)
CENTURY = "at most 36500d"


def policy(**values: str) -> str:
    settings = {"name": '"p"', "topics": '["#"]', "schema": '"s@1"'} | values
    return "\n".join(["[[policies]]", *(f"{key} = {value}" for key, value in settings.items()), ""])


BAD = [
    ('[proxy]\nid = ""', f'proxy.id: found "", expected {ID}'),
    ('[proxy]\nid = "gw 1"', f'proxy.id: found "gw 1", expected {ID}'),
    ('[proxy]\nid = "a/b"', f'proxy.id: found "a/b", expected {ID}'),
    ("[limits]\nconnect_deadline = 0", f"limits.connect_deadline: found 0s, expected more than 0s and {CENTURY}"),
    ('[limits]\nwrite_timeout = "36501d"', f"limits.write_timeout: found 36501d, expected more than 0s and {CENTURY}"),
    ("[limits]\nqueue_bytes = 0", "limits.queue_bytes: found 0B, expected 1B to 1024TiB"),
    ("[limits]\nreceive_maximum = 65536", "limits.receive_maximum: found 65536, expected 1 to 65535"),
    ("[limits]\ntopic_alias_maximum = -1", "limits.topic_alias_maximum: found -1, expected 0 to 65535"),
    (
        '[limits]\npacket_size = "1KiB"\npacket_size_before_connect = 16\npayload_size = "2KiB"',
        "limits.payload_size: found 2KiB, expected at most limits.packet_size, which is 1KiB",
    ),
    (
        "[limits]\npacket_size = 1000\npayload_size = 10",
        "limits.packet_size_before_connect: found 64KiB, expected at most limits.packet_size, which is 1000B",
    ),
    ("[quarantine]\nmax_age = 0", f"quarantine.max_age: found 0s, expected more than 0s and {CENTURY}"),
    ("[quarantine]\nqueue_bytes = 0", "quarantine.queue_bytes: found 0B, expected 1B to 1024TiB"),
    ("[topics]\nallowed = []", "topics.allowed: found an empty list, expected at least one topic filter"),
    ("[topics]\non_failure = []", "topics.on_failure: found an empty list, expected at least one action"),
    (
        "[topics]\nallowed = ['a/#/b']",
        (
            'topics.allowed[0]: found "a/#/b", expected a valid topic filter; '
            "'#' is not the last level of the topic filter"
        ),
    ),
    (
        "[limits]\ntopic_levels = 2\n[topics]\nallowed = ['a/b/c']",
        'topics.allowed[0]: found "a/b/c", expected a valid topic filter; the topic filter has 3 levels, more than 2',
    ),
    (policy(topics="[]"), "policies[0].topics: found an empty list, expected at least one topic filter"),
    (
        policy(topics='["$share/g/a"]'),
        (
            'policies[0].topics[0]: found "$share/g/a", expected a valid topic filter; '
            "a shared subscription is for subscribers only"
        ),
    ),
    (
        policy(topics='[""]'),
        'policies[0].topics[0]: found "", expected a valid topic filter; the topic filter is empty',
    ),
    (policy(schema='"temperature"'), f'policies[0].schema: found "temperature", expected {SCHEMA}'),
    (policy(schema='"../x@1"'), f'policies[0].schema: found "../x@1", expected {SCHEMA}'),
    (policy(schema='"a@../1"'), f'policies[0].schema: found "a@../1", expected {SCHEMA}'),
    (policy(schema='"..@.."'), f'policies[0].schema: found "..@..", expected {SCHEMA}'),
    (policy(schema='"a@1\\n"'), rf'policies[0].schema: found "a@1\n", expected {SCHEMA}'),
    (
        policy(on_failure="[]"),
        'policies[0].on_failure: found an empty list, expected at least one action; level = "observe" only counts',
    ),
    (
        policy(on_failure='["hold", "disconnect"]', direction='"down"'),
        (
            'policies[0].on_failure: found "disconnect", expected another action, because direction is "down"; '
            "its messages come from upstreams, so no device is to blame"
        ),
    ),
    (policy() + policy(), 'policies[1].name: found "p", expected a name of its own; policies[0] has it'),
    (policy(name='""'), f'policies[0].name: found "", expected {NAME}'),
    (policy(name='"a\\tb"'), rf'policies[0].name: found "a\tb", expected {NAME}'),
    (policy(name='" a"'), f'policies[0].name: found " a", expected {NAME}'),
    (UPSTREAM + ROUTE + "to = []", "routes[0].to: found an empty list, expected at least one destination"),
    (UPSTREAM + ROUTE + "to = ['b']", 'routes[0].to[0]: found "b", expected one of "a", "local"'),
    (UPSTREAM + ROUTE + "to = ['a', 'a']", 'routes[0].to[1]: found "a", expected each destination once'),
    (UPSTREAM + ROUTE + "to = ['a']\nhome = 'b'", 'routes[0].home: found "b", expected one of "a", "local"'),
    (
        ROUTE + "to = ['local']\nmax_age = 0",
        "routes[0].max_age: found 0s, expected more than 0s and at most 36500d",
    ),
    (
        UPSTREAM + ROUTE + "to = ['local']\nhome = 'a'",
        (
            'routes[0].home: found "a", expected one of the destinations in "to", or "local"; '
            "else nobody who subscribes gets what is published here"
        ),
    ),
    (
        '[[routes]]\ntopics = []\nto = ["local"]',
        "routes[0].topics: found an empty list, expected at least one topic filter",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_settings_that_do_not_fit_are_told_in_one_exact_sentence(text: str, sentence: str) -> None:
    assert faults(text) == [sentence]


@pytest.mark.parametrize(
    "text",
    [
        UPSTREAM + ROUTE + "to = ['a', 'local']\nhome = 'local'",
        UPSTREAM + ROUTE + "to = ['a']\nhome = 'local'",
        UPSTREAM + ROUTE + "to = ['a']\nhome = 'a'",
        policy(schema='"temperature.outdoor@1.2-rc"'),
        policy(name='"Temperatur außen, 2 m"'),
        policy(on_failure='["disconnect"]', direction='"both"'),
        ROUTE + "to = ['local']\nmax_age = '30s'",
        "[proxy]\ndrain_grace = 0",
        "[quarantine]\ninline_bytes = 0",
        "[limits]\ntopic_alias_maximum = 0",
    ],
)
def test_what_is_allowed_has_no_fault(text: str) -> None:
    assert faults(text) == []
