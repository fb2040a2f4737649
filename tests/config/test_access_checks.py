"""Cross-checks of chains, authenticators and rules, with the exact sentences."""

import pytest

from tests.config.documents import faults, parse

USERS = '[[access.passwords]]\nname = "users"\nfile = "users.toml"\n'
RULE = '[[access.rules]]\naction = "allow"\ntopics = ["a"]\n'

GOOD = [
    f'[access]\nchain = ["users"]\n{USERS}',
    f'[[access.chains]]\nlisteners = ["default"]\nchain = ["users"]\n{USERS}',
    '[[access.passwords]]\nname = "users"\ndatabase = "data/users.db"\nclient_id = "${username}-*"\n',
    '[[access.rules]]\naction = "deny"\ntopics = ["a/${client_id}/+/x-${site}/#"]\nqos = [0, 2]\n',
    '[[access.rules]]\naction = "allow"\non = "subscribe"\ntopics = ["#"]\nshared = ["w*"]\n',
    (
        '[[access.rules]]\naction = "allow"\non = "publish"\ntopics = ["#"]\nretain = false\n'
        '[access.rules.when]\nattributes = { firmware = ">=2" }\n'
    ),
]

BAD = [
    ('[access]\nchain = ["x"]\n', ['access.chain[0]: found "x", expected no authenticator, because there is none']),
    (
        f'[access]\nchain = ["users", "user", "users"]\n{USERS}',
        [
            'access.chain[1]: found "user", expected one of "users"',
            'access.chain[2]: found "users", expected each authenticator once',
        ],
    ),
    (
        USERS + USERS,
        ['access.passwords[1].name: found "users", expected a name of its own; access.passwords[0] has it'],
    ),
    (
        '[[access.passwords]]\nname = "u"\n',
        [
            (
                "access.passwords[0]: found nothing, expected one of file, database and postgresql.url; that is where "
                "the users are"
            )
        ],
    ),
    (
        '[[access.passwords]]\nname = "u"\nfile = "a"\ndatabase = "b"\nclient_id = "${"\n',
        [
            'access.passwords[0].client_id: found "${", expected a glob such as "${username}-*"; a ${ without its }',
            (
                "access.passwords[0]: found file and database, expected one of file, database and postgresql.url; that "
                "is where the users are"
            ),
        ],
    ),
    (
        '[[access.passwords]]\nname = "u"\nfile = "missing"\n',
        ['access.passwords[0].file: found "/etc/mqttproxy/missing", no such file, expected a readable file'],
    ),
    (
        (
            '[[access.chains]]\nlisteners = []\n[[access.chains]]\nlisteners = ["default", "x"]\n'
            '[[access.chains]]\nlisteners = ["default"]\n'
        ),
        [
            "access.chains[0].listeners: found an empty list, expected at least one listener",
            'access.chains[1].listeners[1]: found "x", expected one of "default"',
            'access.chains[2].listeners[0]: found "default", expected one chain for each; chains[1] has it',
        ],
    ),
    (
        '[[access.rules]]\naction = "allow"\ntopics = []\n',
        ["access.rules[0].topics: found an empty list, expected at least one topic filter"],
    ),
    (
        '[[access.rules]]\naction = "allow"\ntopics = ["a+", "${x"]\n',
        [
            (
                'access.rules[0].topics[0]: found "a+", expected a topic filter such as "plant/${site}/#"; a wildcard '
                "does not fill its level of the topic filter"
            ),
            (
                'access.rules[0].topics[1]: found "${x", expected a topic filter such as "plant/${site}/#"; a ${ '
                "without its }"
            ),
        ],
    ),
    (
        '[[access.rules]]\naction = "allow"\ntopics = ["$share/g/a"]\n',
        [
            (
                'access.rules[0].topics[0]: found "$share/g/a", expected a topic filter such as "plant/${site}/#"; '
                'groups of shared subscriptions are chosen by "shared"'
            )
        ],
    ),
    (f"{RULE}qos = [3]\n", ["access.rules[0].qos: found [3], expected some of 0, 1 and 2"]),
    (
        f'{RULE}shared = ["g"]\n',
        ['access.rules[0].on: found "both", expected "subscribe", because shared is given'],
    ),
    (f"{RULE}retain = true\n", ['access.rules[0].on: found "both", expected "publish", because retain is given']),
    (
        f"{RULE}[access.rules.when]\nclient_id = []\n",
        ["access.rules[0].when.client_id: found an empty list, expected at least one text; it would fit nobody"],
    ),
]


@pytest.mark.parametrize("text", GOOD)
def test_what_fits_is_no_fault(text: str) -> None:
    assert faults(text) == []


@pytest.mark.parametrize(("text", "told"), BAD)
def test_what_does_not_is_told(text: str, told: list[str]) -> None:
    assert faults(text, missing="missing") == told


def test_rules_are_there_when_anything_is_denied() -> None:
    assert not parse("").access.has_rules
    assert not parse('[access]\nno_match = "allow"\n').access.has_rules
    assert parse('[access]\nno_match = "deny"\n').access.has_rules
    assert parse(RULE).access.has_rules
