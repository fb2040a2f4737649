"""What all tests share: the hypothesis profiles, and how they are spread over workers."""

import gc
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.postgresql import Server, Table

# A slow shared machine is no failure; in CI the same examples every time, so that a red run can be repeated. They are
# half of what hypothesis tries by itself: going deep is for the fuzzers.
settings.register_profile(
    "quick",
    deadline=None,
    max_examples=50,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")

WORKERS_EACH: Final = 2  # for each processor: most of the long tests wait for other processes

# How tests are spread over workers. File by file, because those of one file share what is made once for a module; but
# where a folder shares a proxy, it goes to one worker, and where each test takes seconds and shares nothing, to whoever
# is free. In this order, so that no worker is left alone with something long at the end.
TOGETHER: Final = ("tests/bad_input/", "tests/conformance/")
ALONE: Final = ("tests/model/", "tests/faults/", "tests/scenarios/test_outage.py", "tests/scenarios/test_sessions.py")
EARLY: Final = (*TOGETHER, *ALONE, "tests/scenarios/", "tests/differential/")


def unit(nodeid: str) -> str:
    """Return the name of what goes to one worker with this test."""
    if nodeid.startswith(ALONE):
        return nodeid
    return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.partition("::")[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first."""
    items.sort(key=lambda item: [not item.nodeid.startswith(place) for place in EARLY])


def pytest_collection_finish() -> None:
    """Leave what was collected, a million objects, out of every look for garbage from now on."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` means."""
    return WORKERS_EACH * len(os.sched_getaffinity(0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what spreads tests over workers."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - only where there are workers

    class ByUnit(LoadScopeScheduling):  # type: ignore[misc] # it comes without types
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    config.option.loadscopereorder = False  # as they were sorted above
    return ByUnit(config, log)


@pytest.fixture(scope="session")
def postgresql() -> "Iterator[Server]":
    """Start a PostgreSQL server, for the tests of one worker. Whoever stops it starts it again."""
    from tests.postgresql import running_server  # noqa: PLC0415 - most workers need none

    with running_server() as server:
        yield server


@pytest.fixture
def table(postgresql: "Server") -> "Iterator[Table]":
    """Return a table of users there, of this test's own."""
    made = postgresql.table()
    yield made
    made.owners.close()
