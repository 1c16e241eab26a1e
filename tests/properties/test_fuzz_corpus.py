# SPDX-License-Identifier: Apache-2.0
"""The corpus of the fuzzers: what was found once, and what is like the real thing."""

from pathlib import Path
from typing import Final

import pytest

from tests.fuzz.parsers import PARSERS

CORPUS: Final = Path(__file__).parents[1] / "fuzz" / "corpus"


@pytest.mark.parametrize("name", PARSERS)
def test_every_input_of_the_corpus_is_read(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert files
    for file in files:
        PARSERS[name](file.read_bytes())


def test_no_corpus_is_left_without_its_parser() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(PARSERS)
