# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry

from ollama_exporter.shim.httpx.recorders import Recorders
from tests.support.paths import ROOT

FORKS = 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_children_of_a_process_with_threads_send_instrumented_requests() -> None:
    """As in gunicorn, celery and multiprocessing. A child that hangs fails the test."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.forks", str(FORKS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == f"{{b'0': {FORKS}}}", done.stderr


def test_a_registry_has_one_recorder() -> None:
    recorders, registry = Recorders(), CollectorRegistry()
    assert recorders.of(registry) is recorders.of(registry)
    assert recorders.of(registry) is not recorders.of(CollectorRegistry())


def test_a_child_has_new_locks_and_the_recorders_of_its_parent() -> None:
    recorders, registry = Recorders(), CollectorRegistry()
    recorder = recorders.of(registry)
    before = recorders.lock
    recorders.before_fork()
    recorders.after_fork_in_child()
    assert recorders.lock is not before
    assert recorders.of(registry) is recorder
