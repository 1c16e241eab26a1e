# SPDX-License-Identifier: Apache-2.0
import os
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes, or its making, tells of the machine and its load, not of the code.
# With CI set, each run draws the same examples: a commit is judged by what it changed. Elsewhere
# they are drawn anew, which is how rare cases are found.
settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("untimed")


# These run the same lines thousands of times, and coverage's tracer makes each three times as dear.
# They are not traced: other tests run all of their lines, or the gate of the coverage would fail.
UNTRACED: Final = (
    "tests/properties/",
    "tests/e2e/test_alerts.py",
    "tests/e2e/test_dashboards.py",
    "tests/e2e/test_week.py",
    "tests/integration/recordings/test_truth.py",
    "tests/integration/shim/proxy/test_cardinality.py",
    "tests/integration/shim/proxy/test_kept_memory.py",
    "tests/integration/shim/test_requests_as_facts.py",
    "tests/unit/residency/test_long_listings.py",
)
WAITING: Final = 2  # workers for each core: half of the suite's time is spent waiting for sockets


def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` starts."""
    return WAITING * (os.cpu_count() or 1)


@pytest.hookimpl(trylast=True)  # after pytest-randomly's shuffle
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes a minute first: the other workers do the rest meanwhile."""
    for item in items:
        if item.nodeid.startswith(UNTRACED):
            item.add_marker("no_cover")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
