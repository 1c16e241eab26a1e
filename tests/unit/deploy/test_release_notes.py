# SPDX-License-Identifier: Apache-2.0
import pytest

from tools.release_notes import release_notes, section

CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.0] - 2026-12-01

### Added
- A thing.

## [1.1.0]
- Older.
"""


def test_the_notes_are_the_section_of_the_version() -> None:
    assert release_notes(CHANGELOG, "1.2.0", "1.2.0") == "### Added\n- A thing."
    assert section(CHANGELOG, "Unreleased") == ""


@pytest.mark.parametrize(
    ("version", "code", "words"),
    [
        ("1.2.0", "1.1.0", "the code is 1.1.0"),
        ("1.3.0", "1.3.0", "no section"),
        ("1.2", "1.2", "no section"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(version: str, code: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        release_notes(CHANGELOG, version, code)
