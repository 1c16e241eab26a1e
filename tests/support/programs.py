# SPDX-License-Identifier: Apache-2.0
"""Programs from outside Python. Absent: the test is skipped with the reason, in CI it fails."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.support.patience import PATIENCE

# It shares its bounds with the histogram of idle gaps so that queries can join the two by `le`.
JOINED_BY_LE: Final = (
    'ollama_model_idle_gap_truncated_seconds_total non-histogram metrics should not have "le" label'
)


def program(name: str) -> str:
    """Return the path of a program on PATH."""
    path = shutil.which(name)
    if path is not None:
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not on PATH, and in CI it must be")
    pytest.skip(f"{name} is not on PATH")


def demand_root(*tools: str) -> None:
    """Skip a test that needs root and programs, if it lacks them; in CI it fails."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        reason = f"it needs root and {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def check_metrics(exposition: str) -> list[str]:
    """Return what `promtool check metrics` has to say, but for what is so on purpose."""
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=exposition,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    said = (checked.stdout + checked.stderr).splitlines()
    assert said or checked.returncode == 0
    return [line for line in said if line != JOINED_BY_LE]


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Kill a program at the end of the block if it still runs: a failing test leaves none behind.

    `with subprocess.Popen(…)` alone would wait for it for ever.
    """
    with process:
        try:
            yield process
        finally:
            process.kill()
