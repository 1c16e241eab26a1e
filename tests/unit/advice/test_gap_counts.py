# SPDX-License-Identifier: Apache-2.0
from ollama_exporter.advice.gap_counts import GapCounts, ModelGaps
from ollama_exporter.advice.idle_histogram import IdleHistogram


def test_gaps_are_counted_by_label_and_copies_do_not_change() -> None:
    counts = GapCounts()
    counts.add("a:latest", 40.0, inferred=False)
    before = counts.of("a:latest")
    counts.add("a:latest", 50.0, inferred=True)
    counts.expect("b:latest")
    assert (before.histogram.samples, before.inferred) == (1, 0)
    assert (counts.samples("a:latest"), counts.of("a:latest").inferred) == (2, 1)
    assert {label: gaps.histogram.samples for label, gaps in counts.items()} == {
        "a:latest": 2,
        "b:latest": 0,
    }
    assert counts.samples("never-seen:latest") == 0


def test_what_an_earlier_process_counted_stands_and_is_not_begun_anew() -> None:
    counts = GapCounts()
    counts.add("a:latest", 1.0, inferred=False)
    counts.restore("a:latest", ModelGaps(IdleHistogram.of([9.0, 8.0])))
    counts.expect("a:latest")
    assert counts.samples("a:latest") == 2
