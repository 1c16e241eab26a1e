# SPDX-License-Identifier: Apache-2.0
"""What `top --once` and `top --json` print of a scripted hour, against golden files."""

import json
from typing import Any, Final

import pytest

from dashboards.pictures.live_page import END, ended
from ollama_exporter.cli.present.board import table
from ollama_exporter.story.document import read_document
from tests.support.golden import assert_golden

BOOT: Final = "boot"  # of this process: another one each time


@pytest.fixture(scope="module")
def document() -> bytes:
    """The status as `/api/v1/status` serves it and `--json` prints it."""
    return ended().document().plain


def test_once(document: bytes) -> None:
    assert_golden("top_once.tsv", "\n".join(table(read_document(document), now=END)) + "\n")


def test_json(document: bytes) -> None:
    found: dict[str, Any] = json.loads(document)
    assert found[BOOT]
    assert_golden("top.json", json.dumps({**found, BOOT: ""}, indent=1, sort_keys=True) + "\n")
