from typing import Any, cast

from mqttproxy.telemetry.health import Health


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def health(self) -> Health:
        return Health(wall=lambda: 1_000_000_000.5 + self.seconds, now=lambda: 50.0 + self.seconds)


def component(document: dict[str, object], name: str) -> dict[str, Any]:
    return cast("dict[str, dict[str, Any]]", document["components"])[name]


def test_nobody_has_reported_is_alive_and_not_ready() -> None:
    health = Health()
    assert health.live()[0] is True
    ok, document = health.ready()
    assert (ok, document["status"]) == (False, "starting")


def test_all_well_is_ready() -> None:
    health = Health()
    health.report("quarantine", ok=True)
    ok, document = health.ready()
    assert (ok, document["status"]) == (True, "ok")


def test_a_component_that_is_not_well_makes_not_ready_and_says_why() -> None:
    health = Health()
    health.report("quarantine", ok=False, reason="disk full")
    ok, document = health.ready()
    assert (ok, document["status"]) == (False, "failing")
    assert component(document, "quarantine")["reason"] == "disk full"
    ok, document = health.live()
    assert (ok, document["status"]) == (True, "degraded")


def test_a_component_that_gates_nothing_only_degrades() -> None:
    health = Health()
    health.report("upstream:a", ok=False, reason="refused", gates="nothing")
    ok, document = health.ready()
    assert (ok, document["status"]) == (True, "degraded")


def test_a_component_that_gates_life_fails_both() -> None:
    health = Health()
    health.report("loop", ok=False, reason="stuck", gates="live")
    assert health.live()[0] is False
    assert health.ready()[0] is False


def test_since_is_the_last_change_and_not_the_last_report() -> None:
    clock = Clock()
    health = clock.health()
    health.report("disk", ok=False, reason="full")
    clock.seconds = 10.0
    health.report("disk", ok=False, reason="still full")
    shown = component(health.ready()[1], "disk")
    assert shown["reason"] == "still full"
    assert shown["since"] == "2001-09-09T01:46:40.500+00:00"
    assert shown["for_seconds"] == 10.0
    health.report("disk", ok=True)
    clock.seconds = 12.0
    document = health.ready()[1]
    assert component(document, "disk")["since"] == "2001-09-09T01:46:50.500+00:00"
    assert component(document, "disk")["for_seconds"] == 2.0
    assert document["uptime_seconds"] == 12.0


def test_what_is_forgotten_no_longer_counts() -> None:
    health = Health()
    health.report("listeners", ok=True)
    health.report("upstream:old", ok=False, reason="gone")
    health.forget("upstream:old")
    health.forget("never there")
    assert health.ready()[0] is True


def test_details_are_shown_with_the_report_and_follow_it() -> None:
    clock = Clock()
    health = clock.health()
    health.report("upstream:a", ok=False, reason="gone", gates="nothing", details={"breaker": "open"})
    clock.seconds = 3.0
    health.report("upstream:a", ok=False, reason="gone", gates="nothing", details={"breaker": "half-open"})
    told = component(health.ready()[1], "upstream:a")
    assert (told["details"], told["for_seconds"]) == ({"breaker": "half-open"}, 3.0)
    health.report("upstream:a", ok=True)
    assert "details" not in component(health.ready()[1], "upstream:a")


def test_reasons_name_what_makes_it_not_ready_and_nothing_else() -> None:
    health = Health()
    assert health.reasons() == ["starting"]
    health.report("upstream:a", ok=False, reason="gone", gates="nothing")
    assert health.reasons() == []
    health.report("quarantine", ok=False, reason="disk full")
    assert health.reasons() == ["quarantine: disk full"]
