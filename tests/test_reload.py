"""The check of schemas in a process of its own. Whole reloads: tests/scenarios/test_reloading.py."""

from pathlib import Path
from subprocess import CompletedProcess

import pytest
import trio

from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import load_config
from mqttproxy.outside import REAL, Outside
from mqttproxy.reload import CHECK_BEGINS, check_schemas, make_ruleset, remember_schemas
from mqttproxy.telemetry.logs import get_log
from mqttproxy.validation.files import schema_folder

POLICY = '[[policies]]\nname = "p{0}"\ntopics = ["{0}"]\nschema = "{0}@1"\n'


def configuration(folder: Path, **schemas: str) -> Path:
    for subject, schema in schemas.items():
        (folder / "schemas" / subject).mkdir(parents=True)
        (folder / "schemas" / subject / "1.json").write_text(schema)
    path = folder / "proxy.toml"
    path.write_text('[schemas]\ncheck_time = "2s"\n' + "".join(POLICY.format(subject) for subject in schemas))
    return path


def with_candidate(folder: Path, schema: str) -> Path:
    path = configuration(folder, a='{"type": "number"}')
    (folder / "schemas" / "b").mkdir()
    (folder / "schemas" / "b" / "1.json").write_text(schema)
    path.write_text(path.read_text() + '[policies.shadow]\nschema = "b@1"\n')
    return path


async def faults_of(path: Path, outside: Outside = REAL) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        await check_schemas(path, load_config(path), outside)
    return [str(fault) for fault in caught.value.faults]


async def test_good_schemas_pass_and_can_be_used(tmp_path: Path) -> None:
    path = configuration(tmp_path, a='{"type": "number"}')
    config = load_config(path)
    await check_schemas(path, config)
    assert make_ruleset(config, 3).generation.number == 3


async def test_faults_are_told_in_the_words_of_the_check(tmp_path: Path) -> None:
    path = configuration(tmp_path, a='{"type": "nonsense"}', b="{")
    first, second = await faults_of(path)
    assert first.startswith(f"{tmp_path}/schemas/a/1.json: /type: found 'nonsense' is not valid under any of")
    assert second.startswith(f"{tmp_path}/schemas/b/1.json: found not JSON")


async def test_a_schema_that_changes_after_the_check_is_refused(tmp_path: Path) -> None:
    path = configuration(tmp_path, a="{}")
    config = load_config(path)
    await check_schemas(path, config)
    (tmp_path / "schemas" / "a" / "1.json").write_text('{"type": "nonsense"}')
    with pytest.raises(ConfigError, match="/type"):
        make_ruleset(config, 1)


def test_a_version_that_was_in_force_cannot_change_after_that(tmp_path: Path) -> None:
    path = configuration(tmp_path, a='{"type": "number"}')
    config = load_config(path)
    folder = schema_folder(config)
    make_ruleset(config, 1, folder)
    schema = tmp_path / "schemas" / "a" / "1.json"
    schema.write_text('{"type": "integer"}')
    make_ruleset(config, 1)  # it is not in force yet
    schema.write_text('{"type": "number"}')
    remember_schemas(folder, get_log())
    make_ruleset(config, 2)
    schema.write_text('{"type": "integer"}')
    with pytest.raises(ConfigError, match="version 1 of a was in force and cannot change"):
        make_ruleset(config, 3)


def test_a_schema_that_only_a_candidate_uses_can_be_changed(tmp_path: Path) -> None:
    path = with_candidate(tmp_path, '{"type": "string"}')
    config = load_config(path)
    folder = schema_folder(config)
    make_ruleset(config, 1, folder)
    remember_schemas(folder, get_log())
    (tmp_path / "schemas" / "b" / "1.json").write_text('{"type": "boolean"}')
    make_ruleset(config, 2)


async def test_the_schemas_of_candidates_are_checked_apart_too(tmp_path: Path) -> None:
    path = with_candidate(tmp_path, '{"type": "nmber"}')
    with pytest.raises(ConfigError, match=r"b/1\.json: /type"):
        await check_schemas(path, load_config(path))


def test_a_memory_that_cannot_be_written_is_told_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = configuration(tmp_path, a='{"type": "number"}')
    config = load_config(path)
    folder = schema_folder(config)
    make_ruleset(config, 1, folder)
    (tmp_path / "data").write_text("a file where the folder should be")
    remember_schemas(folder, get_log())


async def test_without_policies_nothing_is_started(tmp_path: Path) -> None:
    async def run_apart(*_arguments: str, seconds: float) -> CompletedProcess[bytes]:
        raise AssertionError(seconds)

    path = configuration(tmp_path)
    await check_schemas(path, load_config(path), Outside(run_apart=run_apart))


CASE = '[[cases]]\nname = "it"\n[cases.given]\ntopic = "t"\n[cases.expect]\nverdict = "{}"\n'


async def test_cases_are_tried_and_those_that_fail_are_told(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    path.write_text('[schemas]\ncheck_time = "1m"\n')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a.toml").write_text(CASE.format("hold"))
    (told,) = await faults_of(path)
    assert told == (f'{tmp_path}/tests/a.toml: cases[0].expect.verdict: found forward, expected hold; the case is "it"')
    (tmp_path / "tests" / "a.toml").write_text(CASE.format("forward"))
    await check_schemas(path, load_config(path))


async def test_X32_a_check_that_takes_too_long_is_a_fault(tmp_path: Path) -> None:
    given = []

    async def run_apart(*arguments: str, seconds: float) -> CompletedProcess[bytes]:
        await trio.lowlevel.checkpoint()
        given.append((arguments, seconds))
        raise trio.TooSlowError

    path = configuration(tmp_path, a="{}", b="{}")
    assert await faults_of(path, Outside(run_apart=run_apart)) == [
        f"{path}: schemas.check_time: found schemas whose check had not ended after 24s, expected at most 2s for each"
    ]
    assert given == [(("mqttproxy.cli.check", str(path)), CHECK_BEGINS + 4)]


@pytest.mark.parametrize(
    ("returncode", "stderr", "words"),
    [
        (2, b"a\nwhat went wrong\n", "the check of schemas ended with 2: what went wrong"),
        (-9, b"", "the check of schemas ended with -9: without a word"),
        (1, b"", "the check of schemas ended with 1: without a word"),
    ],
)
async def test_a_check_that_ends_in_another_way_is_a_fault(
    returncode: int, stderr: bytes, words: str, tmp_path: Path
) -> None:
    async def run_apart(*_arguments: str, seconds: float) -> CompletedProcess[bytes]:
        await trio.lowlevel.checkpoint()
        assert seconds > 0
        return CompletedProcess([], returncode, b"", stderr)

    path = configuration(tmp_path, a="{}")
    assert await faults_of(path, Outside(run_apart=run_apart)) == [f"{path}: {words}"]
