"""The page of metrics says what a scrape says."""

from pathlib import Path

from mqttproxy.telemetry.written import _ABOUT, _SECTIONS, PAGE, render_page


def test_the_page_of_metrics_is_fresh() -> None:
    page = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
    assert page == render_page(), "stale: run `python -m mqttproxy.telemetry.written` in the top folder"


def test_every_section_has_its_heading_and_begins_a_table() -> None:
    page = render_page()
    assert [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")] == list(
        _SECTIONS.values()
    )
    assert _ABOUT.keys() <= set(_SECTIONS.values())


def test_labels_are_told_in_the_page() -> None:
    assert "| `mqtt_proxy_destination_dropped_total` | counter | `destination`, `reason` |" in render_page()
    assert "| `mqtt_messages_received_total` | counter | `qos` |" in render_page()
    assert "| `mqtt_message_latency_seconds` | histogram |  |" in render_page()
