from pathlib import Path

import pytest

from mqttproxy.cli.candidate import load_candidate
from mqttproxy.config.errors import ConfigError

FILE = """\
[proxy]
id = "gw-1"
[[policies]]
name = "first"
topics = ["a"]
format = "json"
[[policies]]
name = "second"
topics = ["b"]
format = "json"
"""


def policy(name: str, topic: str) -> str:
    return f'[[policies]]\nname = "{name}"\ntopics = ["{topic}"]\nformat = "json"\n'


def candidate(folder: Path, text: str) -> Path:
    (folder / "proxy.toml").write_text(FILE)
    new = folder / "elsewhere" / "new.toml"
    new.parent.mkdir(exist_ok=True)
    new.write_text(text)
    return new


def test_policies_alone_take_the_place_of_those_of_the_same_name_or_come_behind(tmp_path: Path) -> None:
    text = policy("third", "c") + policy("first", "x")
    config = load_candidate(candidate(tmp_path, text), tmp_path / "proxy.toml")
    assert [(policy.name, policy.topics) for policy in config.policies] == [
        ("first", ("x",)), ("second", ("b",)), ("third", ("c",)),
    ]  # fmt: skip
    assert config.proxy.id == "gw-1"
    assert config.proxy.data_dir == tmp_path / "data"


def test_any_other_file_is_a_whole_configuration(tmp_path: Path) -> None:
    text = '[default]\naction = "refuse"\n[[policies]]\nname = "third"\ntopics = ["c"]\nformat = "json"\n'
    config = load_candidate(candidate(tmp_path, text), tmp_path / "proxy.toml")
    assert [policy.name for policy in config.policies] == ["third"]
    assert (config.proxy.id, config.default.action) == ("mqttproxy", "refuse")
    assert config.schemas.directory == tmp_path / "schemas"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("policies = 5\n", "policies: found 5"),
        ('[[policies]]\ntopics = ["c"]\nformat = "json"\n', "name"),
        (
            '[[policies]]\nname = "x"\ntopics = ["c"]\nformat = "json"\n' * 2,
            '"x"',
        ),
        ('[[policies]]\nname = "x"\ntopics = ["c/#/d"]\n', "policies[2].topics[0]"),
        ("[[policies]\n", "line 1"),
    ],
)
def test_faults_are_told_with_the_name_of_the_file(text: str, words: str, tmp_path: Path) -> None:
    new = candidate(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_candidate(new, tmp_path / "proxy.toml")
    told = "\n".join(str(fault) for fault in error.value.faults)
    assert told.startswith(str(new))
    assert words in told
