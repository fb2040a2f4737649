"""Files of cases are read as strictly as the configuration."""

from pathlib import Path

import pytest

from mqttproxy.config.case_files import case_files, keys, load_cases
from mqttproxy.config.errors import ConfigError
from tests.config.documents import UPSTREAM, parse

CONFIG = parse(UPSTREAM + '[[policies]]\nname = "numbers"\ntopics = ["#"]\nformat = "json"\n')
HEAD = '[[cases]]\nname = "it"\n'
CASE = HEAD + '[cases.given]\ntopic = "t"\n{}\n[cases.expect]\nverdict = "hold"\n{}\n'


def faults(folder: Path, text: str) -> list[str]:
    (folder / "a.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_cases(CONFIG, folder)
    return [str(fault).removeprefix(f"{folder}/a.toml: ") for fault in caught.value.faults]


def payload(folder: Path, given: str) -> bytes:
    (folder / "a.toml").write_text(CASE.format(given, ""))
    return load_cases(CONFIG, folder)[0].payload


def test_a_folder_that_is_not_there_has_no_cases(tmp_path: Path) -> None:
    assert load_cases(CONFIG, tmp_path / "tests") == ()
    assert parse("").tests.directory == Path("/etc/mqttproxy/tests")


def test_files_are_read_by_name_and_each_case_knows_its_place(tmp_path: Path) -> None:
    for name in ("b.toml", "a.toml", "c.txt"):
        (tmp_path / name).write_text(CASE.format("", "") + CASE.format("", "").replace("it", "again"))
    assert [path.name for path in case_files(tmp_path)] == ["a.toml", "b.toml"]
    cases = load_cases(CONFIG, tmp_path)
    assert [(Path(case.file).name, case.key) for case in cases] == [
        ("a.toml", "cases[0]"), ("a.toml", "cases[1]"), ("b.toml", "cases[0]"), ("b.toml", "cases[1]"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", b""),
        ('text = "é"', "é".encode()),
        ("json = { a = [1, 2.5, true, 'x'] }", b'{"a":[1,2.5,true,"x"]}'),
        ("json = false", b"false"),
        ('hex = "00 ff"', b"\x00\xff"),
        ('file = "p.bin"', b"\xfe"),
    ],
)
def test_a_payload_can_be_written_in_several_ways(given: str, meant: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.bin").write_bytes(b"\xfe")
    assert payload(tmp_path, given) == meant


@pytest.mark.parametrize(
    ("given", "expect", "told"),
    [
        ("qos = 3", "", "cases[0].given.qos: found 3, expected 0, 1 or 2"),
        ("qoss = 1", "", 'cases[0].given.qoss: found an unknown key; did you mean "qos"?'),
        ('keywords = "x"', "", "cases[0].given.keywords: found an unknown key; it belongs into [cases.expect]"),
        ("drain_grace = 1", "", "cases[0].given.drain_grace: found an unknown key, expected one of topic, text, json"),
        ('hex = "0"', "", 'cases[0].given.hex: found "0", expected hexadecimal digits in pairs'),
        ('file = "p"', "", 'cases[0].given.file: found "p", no such file or directory, expected a readable file'),
        (
            "json = 2026-01-01",
            "",
            "cases[0].given.json: found a date, expected a text, a number, true, false, or a list or table of those",
        ),
        (
            "json = { a = [nan] }",
            "",
            "cases[0].given.json: found a table, expected a text, a number, true, false, or a list or table of those",
        ),
        (
            "text = ''\njson = 1",
            "",
            "cases[0].given.json: found a second payload, expected one of text, json, hex, file; there is text",
        ),
        ("expiry = 0.5", "", "cases[0].given.expiry: found 0.5 s, expected whole seconds, at most 4294967295"),
        ("payload_format_indicator = 2", "", "cases[0].given.payload_format_indicator: found 2, expected 0 or 1"),
        (
            'listener = "defaul"',
            "",
            'cases[0].given.listener: found "defaul", expected a listener of the configuration',
        ),
        (
            'direction = "down"',
            "",
            'cases[0].given.listener: found nothing, expected "upstream:<name>", as the direction is down',
        ),
        (
            'direction = "down"\nlistener = "upstream:b"',
            "",
            'cases[0].given.listener: found "upstream:b", expected a listener of the configuration; did you mean',
        ),
        (
            "",
            'policy = "number"',
            'cases[0].expect.policy: found "number", expected a policy of the configuration; did you mean "numbers"?',
        ),
        (
            "",
            'destinations = ["a", "z"]',
            'cases[0].expect.destinations[1]: found "z", expected an upstream or local of the configuration',
        ),
        (
            "",
            "payloads = 1",
            "cases[0].expect.payloads: found no table, expected a table of destinations and what they get",
        ),
        (
            "",
            "payloads = { z = 1 }",
            'cases[0].expect.payloads: found "z", expected an upstream or local of the configuration',
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_key(given: str, expect: str, told: str, tmp_path: Path) -> None:
    (found,) = faults(tmp_path, CASE.format(given, expect))
    assert found.startswith(told)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    assert faults(tmp_path, "") == ["cases: found nothing, expected tables, each written [[cases]]"]
    assert faults(tmp_path, HEAD) == [
        "cases[0].given: found nothing, expected a table, written [cases.given]",
        "cases[0].expect: found nothing, expected a table, written [cases.expect]",
    ]
    assert faults(tmp_path, HEAD + "[cases.given]\n[cases.expect]\n") == [
        "cases[0].given.topic: found nothing, expected a text",
        f"cases[0].expect.verdict: found nothing, expected one of {FATES}",
    ]
    assert faults(tmp_path, "[[cases]") == ["line 1, column 8: found text that is not TOML; " + WORDS]


FATES = '"forward", "mark", "observed", "hold", "refuse", "drop"'
WORDS = "expected ']]' at the end of an array declaration"


def test_a_name_stands_once_and_a_topic_is_a_topic_name(tmp_path: Path) -> None:
    text = CASE.format("", "")
    assert faults(tmp_path, text + text) == ['cases[1].name: found "it", expected a unique name; cases[0] has it too']
    (told,) = faults(tmp_path, text.replace('"t"', '"a/+"'))
    assert told == 'cases[0].given.topic: found "a/+", expected a topic name; the topic name holds a wildcard'


def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(b"\xff")
    assert len(faults(tmp_path, CASE.format("qos = 3\nexpiry = 0.5", 'policy = "x"'))) == 4


def test_the_page_tells_every_key_of_a_case() -> None:
    page = (Path(__file__).parents[2] / "docs/policies.md").read_text()
    _, _, section = page.partition("## Explain and test")
    assert section
    for table, key, meaning in keys():
        assert f"\n| `{key}` | {meaning.replace('<', '&lt;')} |\n" in section, f"{table}.{key}"
