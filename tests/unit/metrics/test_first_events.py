# SPDX-License-Identifier: Apache-2.0
"""A counter stands at 0 before it counts: `increase()` misses the first event of one born at 1.

What the rules take an increase of is watched while everything happens for the first time. Families
that cannot keep it are named here, with what that means to the rules.
"""

from dataclasses import replace
from typing import Final

from dashboards.pictures.virtual import Virtual
from tests.support.eventful import SCRIPT
from tests.support.paths import ROOT
from tests.support.promql import COUNTED, family_of, reads
from tests.support.weeks import rules_of

RULES: Final = sorted((ROOT / "dashboards" / "rules").glob("*.yaml"))
INSTALLED: Final = tuple(s for s in SCRIPT.steps if getattr(s, "model", "") != "nosuchmodel")
SCENE: Final = replace(SCRIPT, steps=INSTALLED)  # a rehearsal has no 404
SCRAPE: Final = 0.1  # seconds: between what a request does first and what it does last
BORN_LATE: Final = {
    "ollama_model_evictions_total": "one for each pair of models: the rules count a birth as one",
    "ollama_model_loads_total": "before its first load nobody knows the model",
    "ollama_model_load_seconds": "only means of many are taken",
    "ollama_request_time_to_first_token_seconds": "only ratios of many are taken",
    "ollama_model_slot_seconds_total": "seconds, of which only shares are taken",
    "ollama_requests_total": "one for each status: only sums of many are taken",
}


def counted() -> set[str]:
    """Return the names of the series that rules take an increase of."""
    texts = [rule["expr"] for rule in rules_of(RULES)]
    return {read.name for text in texts for read in reads(text) if read.function in COUNTED}


def test_the_first_event_is_seen_by_what_rules_take_an_increase_of() -> None:
    wanted, born, grown = counted(), dict[tuple[str, ...], float](), set[tuple[str, ...]]()
    polls = [0.3 * n for n in range(int(SCENE.duration / 0.3))]
    exporter = Virtual(SCENE, 1_800_000_000.0, polls=polls)
    for number, _ in enumerate(exporter.moments(SCRAPE)):
        for family in exporter.collect():
            for sample in family.samples:
                if sample.name in wanted:
                    key = (sample.name, *map(str, sample.labels.items()))
                    born.setdefault(key, sample.value if number else 0.0)
                    if sample.value > born[key]:
                        grown.add(key)
    late = {family_of(key[0]) for key, value in born.items() if value > 0}
    assert {family.name for family in late if family is not None} == set(BORN_LATE)
    first = {family_of(key[0]) for key in grown if born[key] == 0}
    seen = {family.name for family in first if family is not None}
    unloads = {key[-1] for key in grown if key[0] == "ollama_model_unloads_total"}
    assert {"ollama_cold_starts_total", "ollama_requests_aborted_total"} < seen
    assert len(unloads) >= 4  # reasons, each seen from 0
