# SPDX-License-Identifier: Apache-2.0
"""Programs from outside Python. Absent: the test is skipped with the reason, in CI it fails."""

import os
import shutil

import pytest


def program(name: str) -> str:
    """Return the path of a program on PATH."""
    path = shutil.which(name)
    if path is not None:
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not on PATH, and in CI it must be")
    pytest.skip(f"{name} is not on PATH")
