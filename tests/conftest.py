# SPDX-License-Identifier: Apache-2.0
import pytest


@pytest.hookimpl(trylast=True)  # after pytest-randomly's shuffle
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes a minute first: the other workers do the rest meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
