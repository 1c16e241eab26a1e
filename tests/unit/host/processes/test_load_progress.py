# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.host.processes.load_progress import load_progress
from ollama_exporter.host.processes.reader import Usage


@pytest.mark.parametrize(
    ("used", "size", "share"),
    [
        (Usage(10, 0.0, read=250), 1000, 0.25),  # it reads into buffers
        (Usage(400, 0.0, read=20), 1000, 0.4),  # it maps the file
        (Usage(400, 0.0), 1000, 0.4),  # whose reads may not be known
        (Usage(10, 0.0, read=1200), 1000, 1.0),  # and libraries
        (Usage(10, 0.0, read=10), 0, 0.0),
    ],
)
def test_what_was_read_or_is_resident_is_the_progress(used: Usage, size: int, share: float) -> None:
    assert load_progress(used, size) == share
