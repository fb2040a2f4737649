import pytest

from mqttproxy.validation.subjects import SubjectSettings, parse_subject


def test_a_file_with_everything_is_read() -> None:
    text = b"""
    compatibility = "FULL_TRANSITIVE"
    compatibility_from = 2
    [aliases]
    stable = 2
    candidate = "3-draft"
    [protobuf]
    message = "acme.T"
    required = ["a", "b.c"]
    unknown_fields = "refuse"
    empty = "allow"
    max_depth = 5
    max_bytes = "4KiB"
    """
    settings, faults = parse_subject(text, "t/subject.toml")
    assert faults == []
    assert (settings.compatibility, settings.compatibility_from) == ("FULL_TRANSITIVE", "2")
    assert settings.aliases == {"stable": "2", "candidate": "3-draft"}
    protobuf = settings.protobuf
    assert (protobuf.message, protobuf.required, protobuf.unknown_fields) == ("acme.T", ("a", "b.c"), "refuse")
    assert (protobuf.empty, protobuf.max_depth, protobuf.max_bytes) == ("allow", 5, 4096)


def test_nothing_has_to_be_said() -> None:
    assert parse_subject(b"", "f") == (SubjectSettings(), [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("compatibility = 'FOREVER'", 'f: compatibility: found "FOREVER", expected one of "NONE", "BACKWARD"'),
        ("compatibilty = 'FULL'", "f: compatibilty: found an unknown key, expected one of compatibility"),
        ("compatibility_from = 1.5", "f: compatibility_from: found 1.5, expected a version such as 2"),
        ("aliases = 1", "f: aliases: found 1, expected a table, written [aliases]"),
        ("[aliases]\nstable = '../1'", 'f: aliases.stable: found "../1", expected a version'),
        ("[aliases]\n'../a' = 1", "a name that cannot be referred to"),
        ("[protobuf]\nrequired = 'a'", 'f: protobuf.required: found "a", expected a list of field paths'),
        ("[protobuf]\nunknown_fields = true", "f: protobuf.unknown_fields: found true"),
        ("[protobuf]\nmax_depth = 101", "f: protobuf.max_depth: found 101, expected a whole number from 1 to 100"),
        ("[protobuf]\nmax_depth = true", "f: protobuf.max_depth: found true"),
        ("[protobuf]\nmax_bytes = 'much'", 'f: protobuf.max_bytes: found "much"'),
        ("[protobuf]\nmessage = ''", 'f: protobuf.message: found "", expected a text'),
        ("[protobuf]\nx = 1", "f: protobuf.x: found an unknown key"),
        ("a = ", "f: found text that is not TOML"),
        ("a = '\xff'", "f: found text that is not TOML"),
    ],
)
def test_what_does_not_fit_is_told_with_its_key(text: str, words: str) -> None:
    _, faults = parse_subject(text.encode("latin-1"), "f")
    (fault,) = map(str, faults)
    assert words in fault
