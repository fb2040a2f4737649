"""Which configuration a process begins with: that of its file, or one that was on trial when the last one ended."""

from pathlib import Path

from attrs import evolve, field, frozen

from mqttproxy.config.at_start import keep_at_start
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.model import ProxyConfig
from mqttproxy.outside import REAL, Outside
from mqttproxy.reload import Built, Source, build, make_ruleset
from mqttproxy.ruleset import Ruleset
from mqttproxy.steering.trial import Records, Trial


@frozen
class Resumed:
    """What to begin with, and a line for log and audit trail that says why."""

    config: ProxyConfig
    ruleset: Ruleset
    digest: str
    trial: Trial | None = None  # it is still on
    line: dict[str, object] = field(factory=dict)


async def resume(path: Path, config: ProxyConfig, digest: str, records: Records, outside: Outside = REAL) -> Resumed:
    """Return what to begin with. The data folder is this process's alone by now.

    Args:
        path: of the file.
        config: what it holds; its schemas were checked.
        digest: of the file.
        records: what the process before this one has left.
        outside: has the time, threads and processes.

    Raises:
        ConfigError: a schema of the file cannot be used.
        OSError: the data folder cannot be written.

    """
    number = records.number() + 1
    records.keep_number(number)
    try:
        trial = records.trial()
    except ValueError as error:
        trial, faults = None, [f"what was on trial cannot be read: {error}"]
        records.end_trial()
        return _from_file(config, digest, number, "rollback", faults)
    if trial is None:
        return _from_file(config, digest, number, "start", [])
    if trial.digest == digest:  # killed between the file and the record
        records.end_trial()
        return _from_file(config, digest, number, "confirm", [])
    faults = _why_over(path, trial, digest, outside.wall())
    if not faults:
        try:
            candidate = records.keep_candidate(trial.text.encode())
            built = await build(Source(candidate, path, trial.called), number, outside)
        except ConfigError as error:
            faults = [str(fault) for fault in error.faults]
        else:
            return _on_trial(built, config, trial)
        finally:
            records.end_candidate()
    records.end_trial()
    return _from_file(config, digest, number, "rollback", faults)


def _why_over(path: Path, trial: Trial, digest: str, now: float) -> list[str]:
    if digest != trial.file_digest:
        return [f"{path} was changed while {trial.called} was on trial"]
    if now >= trial.until:
        return [f"{trial.called} was not confirmed in time"]
    return []


def _on_trial(built: Built, config: ProxyConfig, trial: Trial) -> Resumed:
    # What is read at start only could not be rolled back, so it stays as it was.
    in_force = keep_at_start(built.config, config)
    line: dict[str, object] = {"event": "start", "on_trial": trial.called, "who": trial.who, "faults": []}
    return Resumed(in_force, evolve(built.ruleset, config=in_force), built.digest, trial, line)


def _from_file(config: ProxyConfig, digest: str, number: int, event: str, faults: list[str]) -> Resumed:
    return Resumed(config, make_ruleset(config, number), digest, None, {"event": event, "faults": faults})
