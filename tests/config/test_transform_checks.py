"""What is told of steps, masks and their key: which key, what was found, what was expected."""

import pytest

from mqttproxy.config.measures import MEASURES
from mqttproxy.config.transforms import MOST_STEPS, Rename, Set
from tests.config.documents import UPSTREAM, faults, parse

FIRST = "upstreams[0].transforms[0]"
STEP = f"{FIRST}.steps[0]"
VALUE = "a text, a number, true, false, or a list or table of those"
BELOW = 'path: found "", expected a pointer to something in the document; the whole of it cannot go'
KEYED = '[masking]\nkey = "a key of sixteen"\n'


def transforms(*steps: str, topics: str = '["plant/{line}/+"]') -> str:
    written = ", ".join(f"{{ {step} }}" for step in steps)
    return f"{UPSTREAM}[[upstreams.transforms]]\ntopics = {topics}\nsteps = [{written}]\n"


def step_faults(step: str) -> list[str]:
    return [fault.removeprefix(f"{STEP}.") for fault in faults(transforms(step))]


def test_steps_are_read_as_they_are_written() -> None:
    (entry,) = (
        parse(transforms('op = "rename", from = "/a", to = "/b"', 'op = "set", path = "/x", value = 0'))
        .upstreams[0]
        .transforms
    )
    assert entry.topics == ("plant/{line}/+",)
    rename, put = entry.steps
    assert isinstance(rename, Rename)
    assert (rename.from_, rename.to, rename.if_missing) == ("/a", "/b", "fail")
    assert isinstance(put, Set)
    assert repr(put.value) == "0"


def test_steps_may_be_tables_of_their_own() -> None:
    step = '[[upstreams.transforms.steps]]\nop = "remove"\npath = "/a"\n'
    text = f'{UPSTREAM}[[upstreams.transforms]]\ntopics = ["#"]\n{step}'
    assert [step.op for step in parse(text).upstreams[0].transforms[0].steps] == ["remove"]


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ('op = "renam"', 'found the op "renam", expected one of'),
        ('path = "/a"', "found no op, expected one of"),
        ("op = 1", "found the op 1, expected one of"),
    ],
)
def test_an_op_that_is_not_known_is_told(step: str, found: str) -> None:
    (sentence,) = faults(transforms(step))
    assert sentence.startswith(f"{STEP}: {found}")
    assert ('did you mean "rename"?' in sentence) == ("renam" in step)


def test_what_is_no_table_is_told() -> None:
    text = f'{UPSTREAM}[[upstreams.transforms]]\ntopics = ["#"]\nsteps = ["x"]\n'
    assert faults(text) == [f'{STEP}: found "x", expected a step such as {{ op = "rename", from = "/a", to = "/b" }}']


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ('op = "set", path = "a", value = 1', ['path: found "a", expected a JSON Pointer such as "/values/0/unit"']),
        ('op = "set", path = "/a"', [f"value: found nothing, expected {VALUE}"]),
        (
            'op = "set", path = "/a", value = [1979-05-27]',
            [f"value: found a list, expected {VALUE}"],
        ),
        (
            'op = "set", path = "/a", value = nan',
            [f"value: found nan, expected {VALUE}"],
        ),
        (
            'op = "set", path = "/a", value = 1, if_present = "no"',
            ['if_present: found "no", expected one of "replace", "keep"'],
        ),
        (
            'op = "set", path = "/a", value = 1, if_mising = "x"',
            ['if_mising: found an unknown key; did you mean "if_missing"?'],
        ),
        ('op = "remove", path = "/a", if_missing = "ok"', ['if_missing: found "ok", expected one of "fail", "skip"']),
        ('op = "remove", path = ""', [BELOW]),
        (
            'op = "rename", form = "/a", to = "/b"',
            [
                'from: found nothing, expected a JSON Pointer such as "/values/0/unit"',
                'form: found an unknown key; did you mean "from"?',
            ],
        ),
        (
            'op = "rename", from = "/a/b", to = "/c/d"',
            ['to: found "/c/d", expected "/a/…" with another name; move goes elsewhere'],
        ),
        (
            'op = "rename", from = "/a", to = "/a"',
            ['to: found "/a", expected "/…" with another name; move goes elsewhere'],
        ),
        (
            'op = "rename", from = "/a/*", to = "/a/b"',
            ['from: found "/a/*", expected a pointer to a member of an object'],
        ),
        ('op = "move", from = "", to = "/b"', ['from: found "", expected a pointer to one value in the document']),
        (
            'op = "move", from = "/a", to = "/a/b"',
            ['to: found "/a/b", expected another place; nothing can go into itself'],
        ),
        ('op = "move", from = "/a/*/b", to = "/c"', ['to: found "/c", expected "/a/*" and more, as in from']),
        ('op = "move", from = "/c", to = "/a/*/b"', ['to: found "/a/*/b", expected no *, because from has none']),
        (
            'op = "cast", path = "/a", type = "int"',
            ['type: found "int", expected one of "string", "number", "integer", "boolean"'],
        ),
        (
            'op = "unit", path = "/a", from = "F", to = "bar"',
            ['to: found "bar", a unit of pressure, expected one of K, C, F'],
        ),
        ('op = "unit", path = "/a", from = "X", to = "C"', ['from: found "X", expected one of K, C, F']),
        ('op = "unit", path = "/a", from = "F", to = "C", digits = -1', ["digits: found -1, expected 0 to 20"]),
        (
            'op = "mask", path = "/a", how = "hash"',
            ['how: found "hash", expected a key in [masking]; it has neither key nor key_file'],
        ),
        ('op = "mask", path = "/a", how = "truncate"', ["length: found nothing, expected how many characters stay"]),
        ('op = "mask", path = "/a", how = "truncate", length = -1', ["length: found -1, expected 0 to 1000"]),
        (
            'op = "mask", path = "/a", how = "drop", length = 1',
            ["length: found 1, expected none, because nothing stays"],
        ),
        ('op = "mask", path = "", how = "drop"', [BELOW]),
        (
            'op = "copy_topic", from = "{lin}", to = "/a"',
            ['from: found "{lin}", expected names that all topic patterns have; "plant/{line}/+" has {line}'],
        ),
        (
            'op = "copy_topic", from = "{/a}", to = "/a"',
            ['from: found "{/a}", expected parts of the topic only; move takes values of the payload'],
        ),
        ('op = "copy_topic", from = "{", to = "/a"', ['from: found "{", expected a text such as "plant/{line}/{2}"']),
        ('op = "set_topic", to = "a/+"', ['to: found "a/+", expected a topic name; topic names have no wildcards']),
        (
            'op = "set_topic", to = "$SYS/x"',
            ['to: found "$SYS/x", expected a topic name; topics that begin with $ are the server\'s'],
        ),
        ('op = "set_topic", to = "{0}"', ['to: found "{0}", expected another topic']),
    ],
)
def test_what_is_wrong_with_a_step_is_told_with_its_key(step: str, told: list[str]) -> None:
    assert step_faults(step) == told


def test_unknown_units_are_told_with_those_that_are_known() -> None:
    (one, other) = step_faults('op = "unit", path = "/a", from = "X", to = "Y"')
    assert one == f'from: found "X", expected one of {", ".join(MEASURES)}'
    assert other.startswith('to: found "Y"')


def test_a_name_must_stand_in_all_patterns() -> None:
    text = transforms('op = "copy_topic", from = "{line}", to = "/a"', topics='["a/{line}", "b/+"]')
    assert faults(text) == [
        f'{STEP}.from: found "{{line}}", expected names that all topic patterns have; "b/+" has none'
    ]


def test_a_list_is_neither_empty_nor_endless() -> None:
    assert faults(transforms()) == [f"{FIRST}.steps: found an empty list, expected at least one step"]
    many = ['op = "remove", path = "/a"'] * (MOST_STEPS + 1)
    assert faults(transforms(*many)) == [f"{FIRST}.steps: found 65 steps, expected at most 64"]
    assert faults(transforms(many[0], topics="[]")) == [
        f"{FIRST}.topics: found an empty list, expected at least one topic filter"
    ]


def test_the_topic_is_set_once() -> None:
    text = transforms('op = "set_topic", to = "a"', 'op = "set_topic", to = "b"')
    assert faults(text) == [
        f'{FIRST}.steps[1].op: found "set_topic", expected one such step; {STEP} sets the topic already'
    ]


def test_a_pattern_that_is_none_is_told() -> None:
    text = transforms('op = "remove", path = "/a"', topics='["a/{b", "$SYS/+/#"]')
    (sentence,) = faults(text)
    found = f'{FIRST}.topics[0]: found "a/{{b", expected a topic filter such as "plant/{{line}}/+"'
    assert sentence == f"{found}; a {{name}}, of letters, digits and underscores, fills its level"


@pytest.mark.parametrize(
    ("masks", "told"),
    [
        ("paths = []", "paths: found an empty list, expected at least one JSON Pointer"),
        ('paths = [""]', 'paths[0]: found "", expected a pointer to something in the document'),
        ('paths = ["x"]', 'paths[0]: found "x", expected a JSON Pointer such as "/values/0/unit"'),
        ('paths = ["/x"]\nhow = "hash"\nlength = 7', "length: found 7, expected 8 to 64"),
        ('paths = ["/x"]\ntopics = ["a#"]', "topics[0]: found"),
    ],
)
def test_what_is_wrong_with_a_mask_is_told(masks: str, told: str) -> None:
    (sentence,) = faults(f"{KEYED}[[masks]]\n{masks}\n")
    assert sentence.startswith(f"masks[0].{told}")


def test_a_hash_needs_a_key_of_sixteen_bytes_from_one_place() -> None:
    mask = '[[masks]]\npaths = ["/x"]\nhow = "hash"\n'
    assert faults(f"{KEYED}{mask}") == []
    assert faults(f'[masking]\nkey_file = "k"\n{mask}') == []
    assert faults(mask) == ['masks[0].how: found "hash", expected a key in [masking]; it has neither key nor key_file']
    assert faults('[masking]\nkey = "short"') == ["masking.key: found 5 bytes, expected at least 16 bytes"]
    assert faults(f'{KEYED}key_file = "k"') == ["masking.key_file: found both key and key_file, expected one of them"]
    assert faults('[masking]\nkey_file = "k"', missing="k") == [
        'masking.key_file: found "/etc/mqttproxy/k", no such file, expected a readable file'
    ]


def test_the_key_is_never_shown() -> None:
    assert "sixteen" not in repr(parse(KEYED))
    assert faults("[masking]\nkey = 12345678901234567") == [
        "masking.key: found something that is not shown, expected a text"
    ]
