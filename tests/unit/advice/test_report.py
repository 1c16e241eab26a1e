# SPDX-License-Identifier: Apache-2.0
"""From an exposition to what is said of it: records, findings, verdict, warnings, drawing."""

import json
import math
from typing import Any

import pytest
from rich.console import Console

from ollama_exporter.advice.idle_histogram import BOUNDS, IdleHistogram
from ollama_exporter.advice.keep_alive_advice import Confidence
from ollama_exporter.advice.model_usage import UsageHistory, UsageReading, records
from ollama_exporter.advice.report import Report, report
from ollama_exporter.advice.sources import from_text
from ollama_exporter.cli.present.advice_table import curve, document, show
from ollama_exporter.errors import HistoryError
from tests.support.histories import Use, exposition

OFTEN = [100.0] * 40 + [400.0] * 30 + [7200.0] * 12  # under 5m: 42 cold starts
RARE = [7000.0] * 60


def told(uses: dict[str, Use], *, price: float = 2.0, extra: str = "") -> Report:
    history = from_text(exposition(uses, extra=extra), source="here", now=2e9)
    return report(history, price=price)


def drawn(found: Report, width: int) -> str:
    console = Console(width=width, force_terminal=False, highlight=False)
    with console.capture() as capture:
        for part in show(found, width=width):
            console.print(part)
    return capture.get()


def test_an_exposition_gives_back_the_gaps_that_were_counted() -> None:
    found = told({"m:latest": Use(OFTEN, requests=80), "n:latest": Use(RARE, inferred=True)})
    m, n = found.findings
    assert m.record.gaps == IdleHistogram.of(OFTEN)
    assert n.record.gaps == IdleHistogram.of(RARE)
    assert (m.record.seen, n.record.seen) == (True, False)
    assert (m.requests, n.requests) == (80, None)
    assert m.habits.load_seconds == 5.0


def test_a_finding_holds_now_and_then_side_by_side() -> None:
    (f,) = told({"m:latest": Use(OFTEN)}).findings
    assert (f.in_force, f.now.cold_starts) == (300.0, 42)
    assert f.advice.keep_alive == 450.0
    assert f.then.cold_starts == 12
    assert f.changes
    assert f.sure


def test_the_price_moves_the_advice() -> None:
    keeps = [
        told({"m:latest": Use(OFTEN + RARE)}, price=price).findings[0].advice.keep_alive
        for price in (0.0, 0.2, 2.0, 200.0)
    ]
    assert keeps == sorted(keeps, reverse=True)
    assert (keeps[0], keeps[-1]) == (math.inf, 0.0)


def test_what_is_only_installed_is_no_finding() -> None:
    extra = 'ollama_model_disk_bytes{model="unused:latest"} 7\n'
    assert [f.model for f in told({"m:latest": Use(OFTEN)}, extra=extra).findings] == ["m:latest"]


def test_models_that_share_a_label_are_none() -> None:
    assert told({"other": Use(OFTEN), "m:latest": Use(OFTEN)}).findings[0].model == "m:latest"


def test_the_load_is_assumed_where_nobody_measured_it() -> None:
    (f,) = told({"m:latest": Use(OFTEN, load=None)}).findings
    assert f.habits.load_seconds == pytest.approx(1.5 + 6 / 1.5)


@pytest.mark.parametrize(
    ("uses", "said"),
    [
        ({"m:latest": Use()}, "Nothing is known of idle times yet"),
        (
            {"m:latest": Use(OFTEN)},
            'm:latest with "7m30s", 30 cold starts fewer, 8.0 GB-hours more',
        ),
        ({"m:latest": Use(RARE, keep_alive=0.0)}, "no other keep_alive would save much"),
        (
            {
                "m:latest": Use(OFTEN, unloads={"evicted": 9, "expired": 5}, evicted_by={"n:1": 8}),
                "n:1": Use(RARE, memory=2e10),
            },
            (
                "do not fit together: 9 of 14 unloads are evictions, above all m:latest and n:1 "
                "(26.0 GB together). No keep_alive mends that: a smaller quantization or context, "
                "fewer models, or more memory. The shortest keep_alive is evicted first: best n:1"
            ),
        ),
        (
            {"m:latest": Use(OFTEN, unloads={"evicted": 4, "expired": 5})},
            "above all m:latest and others",
        ),
        (
            {"m:latest": Use(OFTEN, unloads={"options_changed": 5, "expired": 1})},
            "the same num_ctx for all would help most",
        ),
        (
            {"m:latest": Use(OFTEN, unloads={"crashed": 3, "out_of_memory": 2})},
            "m:latest crashes or runs out of memory (5 of 5 unloads)",
        ),
        (
            {"m:latest": Use(OFTEN, unloads={"evicted": 2, "expired": 50})},
            "The models fit (evictions: 2)",
        ),
    ],
)
def test_the_verdict_names_what_stands_in_the_way_or_helps_most(
    uses: dict[str, Use], said: str
) -> None:
    ((group, verdict),) = told(uses).verdicts
    assert group == ""
    assert said in verdict


def test_what_is_not_seen_is_said() -> None:
    found = told(
        {
            "a:latest": Use(RARE, inferred=True, load=None, keep_alive=None),
            "b:latest": Use(keep_alive=math.inf, installed=False),
        },
        extra=f"process_start_time_seconds {2e9 - 3 * 86400}\n",
    )
    said = " ".join(found.warnings)
    for expected in (
        "No requests were seen of a:latest (no proxy)",
        "Nobody measured a load of a:latest",
        "in force for a:latest is not known: 5m is assumed",
        "b:latest: kept for ever, so that polls show no use of it",
        "b:latest: not installed any more, removed or renamed",
        "reaches back 3.0 days: the rhythm of a week is not in it",
    ):
        assert expected in said


def test_many_names_are_not_all_listed() -> None:
    found = told({f"m{n}:latest": Use(load=None) for n in range(5)})
    assert "m0:latest, m1:latest, m2:latest and 2 more" in " ".join(found.warnings)


def test_hosts_that_were_summed_and_missing_samples_are_said() -> None:
    one = told({"m:latest": Use(OFTEN)}).history.records
    found = report(
        UsageHistory(one, "Prometheus", 9e6, hosts=3, covered=0.8, remarks=("look out",))
    )
    said = " ".join(found.warnings)
    assert "The use of 3 hosts is summed" in said
    assert "For 20 % of that time there are no samples" in said
    assert "look out" in said


def test_one_value_for_all_models_costs_least_together() -> None:
    assert told({"m:latest": Use(OFTEN)}).for_all == 450.0
    assert told({"m:latest": Use(OFTEN), "n:latest": Use(RARE * 20)}).for_all == 0.0
    assert told({}).for_all == 300.0


def test_records_are_kept_apart_by_a_label() -> None:
    readings = [
        UsageReading("ollama_model_memory_bytes", {"model": "m:latest", "instance": host}, 5.0)
        for host in ("b", "a")
    ]
    assert [r.group for r in records(readings, by="instance")] == ["a", "b"]
    assert [r.group for r in records(readings)] == [""]


def test_gaps_on_other_bounds_are_refused_by_name() -> None:
    readings = [
        UsageReading("ollama_model_idle_gap_seconds_bucket", {"model": "m:latest", "le": le}, 3.0)
        for le in ("5.0", "odd", "+Inf")
    ]
    with pytest.raises(HistoryError, match="m:latest have no bound 30: another version"):
        records(readings)


def test_increases_that_are_fractions_or_infinite_do_no_harm() -> None:
    labels = {"model": "m:latest"}
    readings = [
        UsageReading(
            "ollama_model_idle_gap_seconds_bucket", {**labels, "le": f"{b:g}"}, 1.5 - 1e-9 * b
        )
        for b in BOUNDS
    ]
    readings += [
        UsageReading(
            "ollama_model_idle_gap_truncated_seconds_total", {**labels, "le": f"{b}"}, 15.0
        )
        for b in BOUNDS
    ]
    readings += [
        UsageReading("ollama_model_idle_gap_seconds_bucket", {**labels, "le": "+Inf"}, 1.5),
        UsageReading("ollama_model_idle_gap_seconds_sum", labels, math.nan),
    ]
    (record,) = records(readings)
    assert record.gaps.samples == pytest.approx(1.5)
    assert min(record.gaps.counts) >= 0


@pytest.mark.parametrize("value", ["NaN", "-1", "+Inf", "1e308"])
def test_values_that_no_exporter_counts_are_left_out(value: str) -> None:
    text = exposition({"m:latest": Use(OFTEN, requests=5), "n:latest": Use(RARE)})
    odd = "".join(
        f"{line.rpartition(' ')[0]} {value}\n" if 'model="m:latest"' in line else f"{line}\n"
        for line in text.splitlines()
    )
    history = from_text(odd, source="here", now=2e9)
    assert [f.model for f in report(history).findings] == ["n:latest"]


@pytest.mark.parametrize("text", ["<html>no</html>", "ollama_up{ 1", "ollama_up one"])
def test_what_is_no_exposition_is_said(text: str) -> None:
    with pytest.raises(HistoryError, match=r"here (does not answer with|serves no) metrics"):
        from_text(text, source="here", now=0.0)


# -- drawing ---------------------------------------------------------------------------------------


def everything() -> Report:
    return told(
        {
            "mistral:latest": Use(OFTEN, requests=80, own={"absent": 60, "finite": 15, "never": 5}),
            "qwen2.5:7b": Use(RARE, inferred=True, load=None, keep_alive=None),
            "a-model-with-a-name-of-some-length:70b-instruct-q4_K_M": Use(keep_alive=math.inf),
        }
    )


def test_a_wide_terminal_gets_a_table() -> None:
    text = drawn(everything(), 140)
    assert "cold starts" in text
    (line,) = [line for line in text.splitlines() if line.startswith("mistral:latest  ")]
    assert " ".join(line.split()) == (
        'mistral:latest 80 82 42 -> 12 27.7 -> 35.7 5.0 s 5m "7m30s" provisional, 82 gaps, '
        "saves surely"
    )
    assert "~5.5 s" in text
    assert "5m?" in text
    assert "25 % of requests carry a keep_alive of their own (finite 15, never 5)" in text


@pytest.mark.parametrize("width", [40, 80, 99])
def test_a_narrow_terminal_gets_blocks_and_nothing_is_lost(width: int) -> None:
    text = " ".join(drawn(everything(), width).split())
    for expected in ('advised "7m30s", now 5m', "cold 42 -> 12 starts", "load ~5.5 s", "Price:"):
        assert expected in text
    assert max(map(len, drawn(everything(), width).splitlines())) <= width


def test_without_colour_the_letters_tell_waiting_from_memory() -> None:
    _, f, _ = everything().findings
    lines = [line.plain for line in curve(f, width=100)]
    five = next(line for line in lines if line.strip().startswith("5m "))
    assert "W" in five
    assert "M" in five
    assert five.endswith("<- now")
    assert next(line for line in lines if "7m30s" in line).endswith("<- advised")
    assert any(">" in line for line in lines)
    assert 'Advised: "7m30s" (the gaps decide' in lines[-1]


def test_the_curve_of_a_model_without_gaps_says_so() -> None:
    (f,) = told({"m:latest": Use()}).findings
    assert [line.plain for line in curve(f, width=60)][1].startswith("No idle gap is known yet")


def test_where_nothing_costs_anything_the_curve_is_empty() -> None:
    (f,) = told({"m:latest": Use([100.0] * 9)}, price=0.0).findings
    assert f.advice.keep_alive == math.inf
    assert not any("MM" in line.plain for line in curve(f, width=100))


def test_the_document_is_json_with_minus_one_for_ever() -> None:
    found: dict[str, Any] = json.loads(json.dumps(document(everything()), allow_nan=False))
    long, mistral, _ = found["models"]
    assert mistral["keep_alive"] == "7m30s"
    assert mistral["keep_alive_seconds"] == 450.0
    assert mistral["advised"]["cold_starts"] == 12
    assert mistral["confidence"] == Confidence.PROVISIONAL
    assert mistral["requests_with_own_keep_alive"] == 0.25
    assert long["now"] == {
        "keep_alive_seconds": -1.0,
        "cold_starts": 0.0,
        "idle_gb_hours": 0.0,
        "cost_seconds": 0.0,
        "known": True,
    }
    assert len(mistral["candidates"]) == len(BOUNDS) + 2
