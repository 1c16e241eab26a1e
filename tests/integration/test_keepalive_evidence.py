# SPDX-License-Identifier: Apache-2.0
"""The advice on recorded and made-up arrivals, against what docs/keep-alive.md says of it.

A twentieth of the traces; `python -m bench.keepalive` takes them all.
"""

import re
from pathlib import Path
from typing import Final

from bench.arrivals import FOLDER, families
from bench.keepalive import BREAK_EVENS, MARKS, POLICIES, evaluate, mean

DOCS: Final = Path(__file__).parents[2] / "docs" / "keep-alive.md"
# Mean cost over a clairvoyant's of the algorithm on gaps as they were, from its evaluation.
REFERENCE: Final = dict(zip(BREAK_EVENS, (1.29, 1.27, 1.16), strict=True))
FEW: Final = 0.02  # by which a part of the traces may differ from all of them


def test_on_fifteen_families_the_advice_reaches_its_reference_from_requests_and_from_polls() -> (
    None
):
    part = families(every=24, copies=1)
    policies = {name: POLICIES[name] for name in ("5m", "advised", "from polls")}
    rows = [
        evaluate(name, family, even, policies)
        for name, family in part.items()
        for even in BREAK_EVENS
    ]
    assert len(part) == 15
    for even in BREAK_EVENS:
        told, default = mean(rows, "advised", even), mean(rows, "5m", even)
        assert told <= REFERENCE[even] + FEW
        assert told < default - 0.15
        assert mean(rows, "from polls", even) <= told * 1.015
    both = [
        sum(mean(rows, name, even) for even in BREAK_EVENS) for name in ("advised", "from polls")
    ]
    assert both[1] <= both[0] * 1.01


def test_the_table_in_the_docs_says_that_the_reference_is_reached_on_all_traces() -> None:
    table = DOCS.read_text(encoding="utf-8").split(MARKS[0])[1].split(MARKS[1])[0]
    heading, *rows = [
        [cell.strip(" *") for cell in line.strip("| ").split("|")]
        for line in table.strip().splitlines()
        if not line.startswith("|---")
    ]
    means = {row[0]: dict(zip(heading, row, strict=True)) for row in rows if "mean" in row[0]}
    assert len(rows) == 15 + len(BREAK_EVENS)
    for even in BREAK_EVENS:
        row = means[f"mean, break-even {even / 60:g} min"]
        assert float(row["advised"]) <= REFERENCE[even]
        assert float(row["advised"]) <= float(row["exact"]) + 0.005
        assert float(row["from polls"]) <= float(row["advised"]) * 1.016


def test_the_traces_say_where_they_are_from() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for file in FOLDER.glob("*.csv"):
        assert re.search(rf"{file.name}.*CC-BY|{file.name}.*Apache", text)
