"""What all tests share: the hypothesis profiles, and how they are spread over workers."""

import os
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

# A slow shared machine is no failure; in CI the same examples every time, so that a red run can be repeated.
settings.register_profile(
    "quick",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")

WORKERS_EACH: Final = 2  # for each processor: most of the long tests wait for other processes

# What takes long begins first, so that no worker is left alone with it at the end. Here each test goes to whoever is
# free; all others go file by file, because those of one file share what is made once for a module.
ALONE: Final = ("tests/faults/", "tests/model/", "tests/scenarios/test_sessions.py")
EARLY: Final = (*ALONE, "tests/scenarios/", "tests/differential/", "tests/bad_input/", "tests/conformance/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first."""
    items.sort(key=lambda item: [not item.nodeid.startswith(place) for place in EARLY])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` means."""
    return WORKERS_EACH * len(os.sched_getaffinity(0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what spreads tests over workers."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - only where there are workers

    class ByFileOrTest(LoadScopeScheduling):  # type: ignore[misc] # it comes without types
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(ALONE) else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # as they were sorted above
    return ByFileOrTest(config, log)
