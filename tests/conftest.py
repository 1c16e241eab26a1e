# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings

from tests.support.slow_first import slow_first
from tests.support.traces import remove_broken

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
    "tests/unit/test_untraced.py",  # tests that these are not
    "tests/properties/",
    "tests/e2e/test_alerts.py",
    "tests/e2e/test_dashboards.py",
    "tests/e2e/test_fleet.py",
    "tests/e2e/test_week.py",
    "tests/integration/advice/test_gaps_on_recordings.py",
    "tests/integration/shim/proxy/test_cardinality.py",
    "tests/integration/shim/proxy/test_kept_memory.py",
    "tests/integration/shim/proxy/test_storm.py",
    "tests/integration/shim/test_requests_as_facts.py",
    "tests/unit/endpoint/test_address_signs.py",
    "tests/unit/residency/test_long_listings.py",
)
# The processes that these start are traced: they run lines that no test runs in its own. To trace
# one costs 0.3 s of CPU, and one that is killed while it writes its data leaves a broken file.
STARTING: Final = (
    "tests/e2e/test_command_line.py",
    "tests/e2e/test_demo.py",
    "tests/integration/actions/test_warm_measure.py",
    "tests/integration/cli/",
    "tests/integration/simulator/",
    "tests/integration/test_process.py",
    "tests/integration/web/test_listening.py",
    "tests/unit/test_descriptors.py",
)
SETTINGS: Final = ("OLLAMA_", "OPENAI_", "ANTHROPIC_")  # variables that steer us and the SDKs
WAITING: Final = 2  # workers for each core: half of the suite's time is spent waiting for sockets
CHILDREN: Final = "COVERAGE_PROCESS_CONFIG"  # with it, a Python that starts traces itself


def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` starts."""
    return WAITING * (os.cpu_count() or 1)


@contextmanager
def alone() -> Iterator[None]:
    """Trace no process that this one starts."""
    setting = os.environ.pop(CHILDREN, None)
    try:
        yield
    finally:
        if setting is not None:
            os.environ[CHILDREN] = setting


@contextmanager
def untraced() -> Iterator[None]:
    """Trace neither this process nor one that it starts."""
    coverage = Coverage.current()
    if coverage is not None:
        coverage.stop()
    try:
        with alone():
            yield
    finally:
        if coverage is not None:
            coverage.start()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Forget what is set on this machine, and end what traces a worker before pytest-cov does.

    coverage's start-up file and pytest-cov's own start begin one each. When the last one stops,
    the one before it goes on: nothing would be untraced, and what it finds is not even reported.
    """
    for name in [name for name in os.environ if name.startswith(SETTINGS)]:
        del os.environ[name]
    if hasattr(config, "workerinput"):
        while (coverage := Coverage.current()) is not None:
            coverage.stop()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Trace in one worker what imports run: the others import the same."""
    if getattr(session.config, "workerinput", {}).get("workerid", "gw0") == "gw0":
        return (yield)
    with untraced():
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)  # before pytest-cov combines
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Forget what processes left that were killed while they wrote their data."""
    result = yield
    coverage = Coverage.current()
    if coverage is not None and not hasattr(session.config, "workerinput"):
        remove_broken(Path(coverage.config.data_file).resolve())
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run what needs no trace without one, with its fixtures and the processes it starts."""
    if item.nodeid.startswith(STARTING):
        return (yield)
    with untraced() if item.nodeid.startswith(UNTRACED) else alone():
        return (yield)


@pytest.hookimpl(trylast=True)  # after pytest-randomly's shuffle
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each worker begin with some of what takes long, so that none waits for it at the end."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = slow_first(items, seconds, workers=workers)


def seconds(item: pytest.Item) -> float:
    """Return how long a slow test takes; 0: it is none."""
    marker = item.get_closest_marker("slow")
    return 0.0 if marker is None else marker.kwargs["seconds"]
