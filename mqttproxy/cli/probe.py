"""`mqttproxy check --probe`: what each upstream answers to a connection."""

import trio

from mqttproxy.cli.output import complain, say
from mqttproxy.config.model import ProxyConfig, UpstreamSettings
from mqttproxy.config.units import write_duration
from mqttproxy.upstream.probe import ProbeResult, probe as probe_upstream

# The probe keeps its own deadline; this one is for the case that it does not.
PATIENCE: float = 5.0  # seconds beyond connect_timeout


def probe_all(config: ProxyConfig) -> int:
    """Probe all upstreams that are enabled, tell the results, and return the exit code."""
    return trio.run(_probe_all, config)


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
