"""`mqttproxy check FILE [--probe]`."""

from pathlib import Path

import trio

from mqttproxy.cli.cases import check_cases
from mqttproxy.cli.output import complain, say, tell
from mqttproxy.config.errors import ConfigError
from mqttproxy.config.load import load_config
from mqttproxy.config.model import ProxyConfig, UpstreamSettings
from mqttproxy.config.units import write_duration
from mqttproxy.upstream.probe import ProbeResult, probe as probe_upstream
from mqttproxy.validation import build_generation

# The probe keeps its own deadline; this one is for the case that it does not.
PATIENCE: float = 5.0  # seconds beyond connect_timeout


def check(file: Path, /, *, probe: bool = False) -> int:
    """Check a configuration file, its policies, schemas and cases, and tell all their faults.

    Args:
        file: the configuration, see `proxy.toml.example`.
        probe: connect to each upstream that is enabled, too.

    """
    try:
        config = load_config(file)
        check_cases(config, build_generation(0, config))
    except ConfigError as error:
        return tell(error)
    say(f"{file}: ok: {_summary(config)}")
    for note in _notes(config):
        say(f"{file}: note: {note}")
    if probe:
        return trio.run(_probe_all, config)
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
    if not config.access.allow_anonymous:
        notes.append("access.allow_anonymous is false, so nobody can connect")
    if not any(listener.enabled for listener in config.listeners):
        notes.append("no listener is enabled, so nobody can connect")
    notes.extend(
        f"INSECURE: upstream {upstream.name} is trusted whatever certificate it shows (insecure_skip_verify)"
        for upstream in config.upstreams
        if upstream.insecure_skip_verify
    )
    return notes


async def _probe_all(config: ProxyConfig) -> int:
    """Probe all upstreams at once, tell the results in the order of the file, and return the exit code."""
    upstreams = [upstream for upstream in config.upstreams if upstream.enabled]
    results: dict[str, ProbeResult] = {}

    async def probe_one(upstream: UpstreamSettings) -> None:
        patience = upstream.connect_timeout + PATIENCE
        results[upstream.name] = ProbeResult(ok=False, words=f"no answer within {write_duration(patience)}")
        with trio.move_on_after(patience):
            results[upstream.name] = await probe_upstream(upstream, config.proxy.id)

    async with trio.open_nursery() as nursery:
        for upstream in upstreams:
            nursery.start_soon(probe_one, upstream)
    for upstream in upstreams:
        result = results[upstream.name]
        (say if result.ok else complain)(f"upstream {upstream.name}: {result.words}")
    return 0 if all(result.ok for result in results.values()) else 1
