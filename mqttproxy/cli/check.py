"""`mqttproxy check FILE [--probe]`.

A proxy that starts or reloads has its schemas checked by `python -m mqttproxy.cli.check FILE`: the same, but nothing of
what reads command lines or speaks MQTT is imported, so that it is over in half of the time.
"""

import sys
from pathlib import Path

from mqttproxy.cli.output import say, tell
from mqttproxy.config.case_files import case_files
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import load_config
from mqttproxy.config.masking import key_of
from mqttproxy.config.model import ProxyConfig
from mqttproxy.validation import build_generation


def check(file: Path, /, *, probe: bool = False, as_: Path | None = None) -> int:
    """Check a configuration file, its policies, schemas and cases, and tell all their faults.

    Args:
        file: the configuration, see `proxy.toml.example`.
        probe: connect to each upstream that is enabled, too.
        as_: where it is to stand, if not where it does: its paths are relative to the folder of that.

    """
    try:
        config = load_config(file, place=as_)
        generation = build_generation(0, config)
        if case_files(config.tests.directory):
            from mqttproxy.cli.cases import check_cases  # noqa: PLC0415 - see above

            check_cases(config, generation)
        key_of(config, str(file))
        if config.access.chain or config.access.chains:
            from mqttproxy.access.building import make_chains  # noqa: PLC0415 - see above

            make_chains(config, str(file))
    except ConfigError as error:
        return tell(error)
    say(f"{file}: ok: {_summary(config)}")
    for note in _notes(config):
        say(f"{file}: note: {note}")
    if probe:
        from mqttproxy.cli.probe import probe_all  # noqa: PLC0415 - see above

        return probe_all(config)
    return 0


def _summary(config: ProxyConfig) -> str:
    counts = {
        "listener": len(config.listeners),
        "policy": len(config.policies),
        "upstream": len(config.upstreams),
        "route": len(config.routes),
    }
    return ", ".join(f"{count} {_plural(word) if count != 1 else word}" for word, count in counts.items())


def _plural(word: str) -> str:
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def _notes(config: ProxyConfig) -> list[str]:
    """Return what is allowed but should not surprise anyone."""
    notes = []
    access = config.access
    if not (access.allow_anonymous or access.chain or access.chains):
        notes.append("access.allow_anonymous is false and access.chain is empty, so nobody can connect")
    if not any(listener.enabled for listener in config.listeners):
        notes.append("no listener is enabled, so nobody can connect")
    notes.extend(
        f"INSECURE: upstream {upstream.name} is trusted whatever certificate it shows (insecure_skip_verify)"
        for upstream in config.upstreams
        if upstream.insecure_skip_verify
    )
    return notes


if __name__ == "__main__":
    sys.exit(check(Path(sys.argv[1]), as_=Path(sys.argv[2]) if len(sys.argv) > 2 else None))
