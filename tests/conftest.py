# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import HealthCheck, settings

# How long an example takes, or its making, tells of the machine and its load, not of the code.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("untimed")


@pytest.hookimpl(trylast=True)  # after pytest-randomly's shuffle
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes a minute first: the other workers do the rest meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
