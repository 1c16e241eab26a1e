# SPDX-License-Identifier: Apache-2.0
"""Recordings for tests."""

import json
from pathlib import Path
from typing import Any, Final

from tests.support.paths import DATA

OFFICE: Final = DATA / "polls" / "office-1.jsonl.gz"
DATE: Final = "Mon, 23 Nov 2026 20:03:48 GMT"
POLL: Final[dict[str, Any]] = {
    "t": 1000.0,
    "kind": "poll",
    "took": 0.1,
    "status": 200,
    "date": DATE,
    "new_connection": True,
    "body": {"models": []},
}


def write_records(folder: Path, *records: object) -> Path:
    """Write records as a recording and return its path."""
    file = folder / "r.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file
