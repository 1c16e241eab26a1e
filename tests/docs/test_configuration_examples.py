# SPDX-License-Identifier: Apache-2.0
"""Every configuration shown is one that is accepted."""

import re
from pathlib import Path
from typing import Final

import pytest

from ollama_exporter.config.load import load
from ollama_exporter.config.schema import Settings
from tests.support.paths import ROOT

BLOCK: Final = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
OURS: Final = re.compile(
    r"^(keep-warm|defaults|autopilot|ollama\.url|targets|probe\.allow):", re.MULTILINE
)
PAGES: Final = ("policy.md", "configuration.md", "fleet.md")
EXAMPLES: Final = [
    (page.name, block)
    for page in (ROOT / "README.md", *(ROOT / "docs" / x for x in PAGES))
    for block in BLOCK.findall(page.read_text(encoding="utf-8"))
    if OURS.search(block)
]


@pytest.mark.parametrize(("page", "block"), EXAMPLES, ids=[page for page, _ in EXAMPLES])
def test_it_is_accepted(page: str, block: str, tmp_path: Path) -> None:
    file = tmp_path / page
    file.write_text(block, encoding="utf-8")
    assert load({}, environment={}, file=file) != Settings()


def test_there_are_some() -> None:
    assert len(EXAMPLES) >= 5
