# SPDX-License-Identifier: Apache-2.0
"""The advice on recorded and made-up arrivals, against what docs/keep-alive.md says of it.

A part of the traces; `python -m bench.keepalive` takes them all.
"""

import os
import re
import subprocess
import sys
from typing import Final

import pytest

from bench.arrivals import FOLDER
from bench.keepalive import BREAK_EVENS, MARKS
from tests.support.paths import ROOT

DOCS: Final = ROOT / "docs" / "keep-alive.md"
# Mean cost over a clairvoyant's of the algorithm on gaps as they were, from its evaluation.
REFERENCE: Final = dict(zip(BREAK_EVENS, (1.29, 1.27, 1.16), strict=True))
FEW: Final = 0.02  # by which a part of the traces may differ from all of them


Table = dict[str, dict[str, float]]


def means(table: str) -> tuple[int, Table]:
    """Read a table: how many families it has, and the mean cost of each policy by break-even."""
    heading, *rows = [
        [cell.strip(" *") for cell in line.strip("| ").split("|")]
        for line in table.strip().splitlines()
        if not line.startswith("|---")
    ]
    found = {
        row[0]: dict(zip(heading[1:], map(float, row[1:]), strict=True))
        for row in rows
        if row[0].startswith("mean, break-even ")
    }
    return len(rows) - len(found), found


def mean(table: Table, policy: str, even: float) -> float:
    return table[f"mean, break-even {even / 60:g} min"][policy]


@pytest.mark.slow(seconds=15)
def test_on_fifteen_families_the_advice_reaches_its_reference_from_requests_and_polls() -> None:
    command = [sys.executable, "-m", "bench.keepalive", "--every=60", "--copies=1", "--digits=4"]
    # Without coverage, which takes ten times as long and learns nothing of the advice.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    families, found = means(done.stdout)
    assert families == 15
    assert "15 min and people: " in done.stderr  # what takes its time says how far it is
    for even in BREAK_EVENS:
        told = mean(found, "advised", even)
        assert told <= REFERENCE[even] + FEW
        assert told <= mean(found, "exact", even) + 0.005
        assert told < mean(found, "5m", even) - 0.15
        assert mean(found, "from polls", even) <= told * 1.015
    sums = [
        sum(mean(found, name, even) for even in BREAK_EVENS) for name in ("advised", "from polls")
    ]
    assert sums[1] <= sums[0] * 1.01


def test_the_table_in_the_docs_says_that_the_reference_is_reached_on_all_traces() -> None:
    page = DOCS.read_text(encoding="utf-8")
    families, found = means(page.split(MARKS[0])[1].split(MARKS[1])[0])
    assert families == 15
    for even in BREAK_EVENS:
        told = mean(found, "advised", even)
        assert told <= REFERENCE[even]
        assert told <= mean(found, "exact", even)
        assert mean(found, "from polls", even) <= told * 1.016


def test_the_traces_say_where_they_are_from() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for file in FOLDER.glob("*.csv"):
        assert re.search(rf"{file.name}.*CC-BY|{file.name}.*Apache", text)
