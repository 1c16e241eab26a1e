# SPDX-License-Identifier: Apache-2.0

import pytest

from ollama_exporter.shim.observation import Start, start_of


@pytest.mark.parametrize(
    ("load", "resident", "start"),
    [
        (0.1, None, Start.WARM),
        (0.5, None, Start.COLD),
        (0.3, False, Start.COLD),  # a small model, loaded since
        (0.002, False, Start.WARM),  # the listing was older than the load
        (3.0, True, Start.COLD),  # evicted since, or an old server that lists while it loads
        (None, True, Start.WARM),
        (None, False, Start.COLD),
        (None, None, Start.UNKNOWN),
    ],
)
def test_the_answer_wins_over_the_listing(
    load: float | None,
    resident: bool | None,  # noqa: FBT001 - a row of the table
    start: Start,
) -> None:
    assert start_of(load_wait=load, resident=resident) is start
