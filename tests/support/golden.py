# SPDX-License-Identifier: Apache-2.0
"""Golden files: what a program prints, kept as it was. WRITE_GOLDEN=1 writes them anew."""

import os
from typing import Final

from tests.support.paths import TESTS

FOLDER: Final = TESTS / "golden"


def assert_golden(name: str, found: str) -> None:
    """Assert that a text is that of the golden file."""
    golden = FOLDER / name
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")
