"""What all tests share: the hypothesis profiles."""

import os

from hypothesis import HealthCheck, settings

# A slow shared machine is no failure; in CI the same examples every time, so that a red run can be repeated.
settings.register_profile(
    "quick",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")
