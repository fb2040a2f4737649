"""The metrics as a page: `docs/metrics.md`, rendered from what a scrape says, so that the two cannot disagree.

The page is committed, a test fails when it is stale, and this command in the top folder writes it anew:

    python -m mqttproxy.telemetry.written
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs
from prometheus_client.metrics_core import Metric

from mqttproxy.telemetry.destination import DestinationSnapshot
from mqttproxy.telemetry.exposition import MetricsCollector
from mqttproxy.telemetry.limited import LimitingMetrics
from mqttproxy.telemetry.metrics import Metrics
from mqttproxy.telemetry.recorded import RecorderMetrics

PAGE: Final = Path("docs/metrics.md")

_HEAD: Final = """\
# Metrics

<!-- Written by `python -m mqttproxy.telemetry.written` from mqttproxy/telemetry/metrics.py: change the texts there. -->

Prometheus reads them from `/metrics` at `telemetry.metrics_bind`, by default `127.0.0.1:9100`, together with those of
the Python process (`process_*`, `python_*`). Counters count since the start of the process. Labels are names from the
configuration or short fixed words, never anything that a device chooses: no client identifier, no topic. After 64
different reasons the rest is counted together as `other`.
"""

# Headings, each before the family that begins its table.
_SECTIONS: Final = {
    "mqtt_proxy_info": "The process",
    "mqtt_messages_received": "Messages from devices",
    "mqtt_proxy_messages": "The judge",
    "mqtt_proxy_connection_status": "Connections of devices",
    "mqtt_proxy_deliveries": "Towards devices",
    "mqtt_proxy_sessions": "Sessions",
    "mqtt_proxy_spool_messages": "The spool",
    "mqtt_proxy_wills_pending": "Wills and flapping",
    "mqtt_proxy_quarantine_size_bytes": "Quarantine, audit trail, configuration",
    "mqtt_proxy_recorder_recorded": "Recorder",
    "mqtt_proxy_rate_pauses": "Rates, bans and overload",
    "mqtt_messages_forwarded": "Destinations",
}
_ABOUT: Final = {
    "Messages from devices": """\
The books: at every scrape, received is the sum of routed, held, refused, dropped and waiting, over all their labels.
`mqtt_proxy_books_difference` is what is left over, and anything but 0 is a bug.
""",
    "Recorder": """\
All 0 while `recorder.enabled` is false. What drift means stands in [Schemas](schemas.md#drift).
""",
    "Destinations": """\
One sample for each upstream, and for `local`, which is the proxy's own subscribers. Each has books of its own: what was
offered is the sum of what was forwarded, waits, is in flight, was refused and was dropped.
""",
}


def render_page() -> str:
    """Return the page of all metrics."""
    parts = [_HEAD]
    for family in MetricsCollector(_example()).collect():
        if heading := _SECTIONS.get(family.name):
            about = f"\n{_ABOUT[heading]}" if heading in _ABOUT else ""
            parts.append(f"\n## {heading}\n{about}\n| name | kind | labels | meaning |\n|---|---|---|---|\n")
        parts.append(_row(family))
    return "".join(parts)


def _example() -> Metrics:
    """Return metrics in which every label has been used once."""
    metrics = Metrics(more=[RecorderMetrics(), LimitingMetrics()])
    for numbers in (metrics, *metrics.more):
        for attribute in attrs.fields(type(numbers)):
            value = getattr(numbers, attribute.name)
            told = attribute.metadata.get("told")
            if told is not None and isinstance(value, dict):
                value["label" if len(told.labels) == 1 else told.labels] = 1
    destination = DestinationSnapshot(name="a", kind="mqtt", connected=True, trouble="lost", dropped={"queue_full": 1})
    metrics.destinations = lambda: (destination,)
    return metrics


def _row(family: Metric) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in sorted(_labels(family)))
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n"


def _labels(family: Metric) -> Iterable[str]:
    return {label for sample in family.samples for label in sample.labels if label != "le"}


if __name__ == "__main__":
    PAGE.write_text(render_page(), encoding="utf-8")
