import pytest

from mqttproxy.cli.subject_file import with_alias, without_alias

FILE = """\
compatibility = "FULL" # for the fleet

[aliases] # names
stable = 1  # since May
candidate = "2"

[protobuf]
empty = "allow"
"""


def test_an_alias_moves_and_all_else_stays_as_it_was() -> None:
    assert with_alias(FILE, "candidate", "3") == FILE.replace('"2"', '"3"')
    assert with_alias(FILE, "stable", "2") == FILE.replace("stable = 1  # since May", 'stable = "2"')


def test_a_new_alias_comes_behind_the_others() -> None:
    assert with_alias(FILE, "next", "4") == FILE.replace('"2"\n', '"2"\nnext = "4"\n')
    assert with_alias("", "a", "1") == '[aliases]\na = "1"\n'
    assert with_alias("compatibility = 'NONE'", "a.b", "1") == 'compatibility = \'NONE\'\n\n[aliases]\n"a.b" = "1"\n'


def test_an_alias_is_taken_away() -> None:
    assert without_alias(FILE, "stable") == FILE.replace("stable = 1  # since May\n", "")
    assert without_alias(FILE, "other") == FILE


@pytest.mark.parametrize("text", ["aliases = { stable = 1 }", "aliases.stable = 1", 'x = """\n[aliases]\n"""', "a = "])
def test_what_can_only_be_changed_by_hand_is_left_alone(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        with_alias(text, "stable", "2")
