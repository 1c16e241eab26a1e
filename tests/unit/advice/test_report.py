# SPDX-License-Identifier: Apache-2.0
"""From an exposition to what is said of it: records, findings, verdict, warnings, drawing."""

import json
import math
from typing import Any

import pytest
import yaml
from rich.console import Console

from ollama_exporter.advice.exporter_source import from_text
from ollama_exporter.advice.idle_histogram import BOUNDS, IdleHistogram
from ollama_exporter.advice.keep_alive_advice import Confidence
from ollama_exporter.advice.model_usage import UsageHistory, UsageSample, records
from ollama_exporter.advice.report import Report, report
from ollama_exporter.cli.present.advice_table import curve, document, show
from ollama_exporter.errors import SourceError
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
    assert m.inputs.load_seconds == 5.0


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
    assert f.inputs.load_seconds == pytest.approx(1.5 + 6 / 1.5)


@pytest.mark.parametrize(
    ("uses", "said"),
    [
        ({"m:latest": Use()}, "No idle time has been observed yet"),
        (
            {"m:latest": Use(OFTEN)},
            'm:latest with "7m30s": 30 cold starts fewer, 8.0 GB-hours more of idle memory.',
        ),
        ({"m:latest": Use(RARE, keep_alive=0.0)}, "No other keep_alive would save much"),
        (
            {
                "m:latest": Use(OFTEN, unloads={"evicted": 9, "expired": 5}, evicted_by={"n:1": 8}),
                "n:1": Use(RARE, memory=2e10),
            },
            (
                "do not fit together: 9 of 14 unloads are evictions, above all m:latest and n:1 "
                "(26.0 GB together). No keep_alive fixes that: use smaller quantizations or "
                "contexts, fewer models, more memory. The model with the shortest keep_alive is "
                "evicted first; n:1 would be missed least."
            ),
        ),
        (
            {"m:latest": Use(OFTEN, unloads={"evicted": 4, "expired": 5})},
            "above all m:latest and others",
        ),
        (
            {"m:latest": Use(OFTEN, unloads={"options_changed": 5, "expired": 1})},
            "Use one num_ctx in all clients.",
        ),
        (
            {"m:latest": Use(OFTEN, unloads={"crashed": 3, "out_of_memory": 2})},
            "m:latest crashes or runs out of memory (5 of 5 unloads)",
        ),
        (
            {"m:latest": Use(OFTEN, unloads={"evicted": 2, "expired": 50})},
            "The models fit (2 evictions)",
        ),
    ],
)
def test_the_verdict_names_what_stands_in_the_way_or_helps_most(
    uses: dict[str, Use], said: str
) -> None:
    ((group, verdict),) = told(uses).verdicts
    assert group == ""
    assert said in verdict


def test_a_keep_alive_that_the_server_refuses_is_none_of_the_client_s_own() -> None:
    counts = {"absent": 10, "refused": 80, "finite": 10}
    extra = "".join(
        f'ollama_request_keep_alive_total{{model="a:latest",class="{name}"}} {count}\n'
        for name, count in counts.items()
    )
    (found,) = told({"a:latest": Use(OFTEN)}, extra=extra).findings
    assert found.own_share == 0.5


def test_what_is_not_seen_is_said() -> None:
    found = told(
        {
            "a:latest": Use(RARE, inferred=True, load=None, keep_alive=None),
            "b:latest": Use(keep_alive=math.inf, installed=False),
            "c:latest": Use(keep_alive=math.inf, requests=5),
        },
        extra=f"process_start_time_seconds {2e9 - 3 * 86400}\n",
    )
    said = " ".join(found.warnings)
    for expected in (
        "Requests for a:latest are not seen (no proxy)",
        "No load of a:latest was measured",
        "keep_alive of a:latest is unknown; 5m is assumed",
        "b:latest never expires, so polls cannot show when it is used",
        "b:latest is no longer installed: removed or renamed",
        "covers only 3.0 days, so it shows no weekly pattern",
    ):
        assert expected in said


@pytest.mark.parametrize(
    ("use", "is_said"),
    [(Use(OFTEN), True), (Use(OFTEN, requests=50), False), (Use(RARE, inferred=True), False)],
    ids=["slots alone", "requests", "deadlines"],
)
def test_gaps_that_slots_measured_are_said_to_be(use: Use, *, is_said: bool) -> None:
    found = told({"a:latest": use}, extra='ollama_model_busy_seconds_total{model="a:latest"} 70\n')
    said = "Idle gaps of a:latest are measured at the slots, to within 5 s"
    assert (said in " ".join(found.warnings)) == is_said


def test_many_names_are_not_all_listed() -> None:
    found = told({f"m{n}:latest": Use(load=None) for n in range(5)})
    assert "m0:latest, m1:latest, m2:latest and 2 more" in " ".join(found.warnings)


def test_hosts_that_were_summed_and_missing_samples_are_said() -> None:
    one = told({"m:latest": Use(OFTEN)}).history.records
    found = report(
        UsageHistory(one, "Prometheus", 9e6, hosts=3, covered=0.8, warnings=("look out",))
    )
    said = " ".join(found.warnings)
    assert "3 hosts are taken together" in said
    assert "20 % of that time has no samples" in said
    assert "look out" in said


def test_one_value_for_all_models_costs_least_together() -> None:
    assert told({"m:latest": Use(OFTEN)}).for_all == 450.0
    assert told({"m:latest": Use(OFTEN), "n:latest": Use(RARE * 20)}).for_all == 0.0
    assert told({}).for_all == 300.0


def test_records_are_kept_apart_by_a_label() -> None:
    samples = [
        UsageSample("ollama_model_memory_bytes", {"model": "m:latest", "instance": host}, 5.0)
        for host in ("b", "a")
    ]
    assert [r.group for r in records(samples, by="instance")] == ["a", "b"]
    assert [r.group for r in records(samples)] == [""]


def test_gaps_on_other_bounds_are_refused_by_name() -> None:
    samples = [
        UsageSample("ollama_model_idle_gap_seconds_bucket", {"model": "m:latest", "le": le}, 3.0)
        for le in ("5.0", "odd", "+Inf")
    ]
    with pytest.raises(SourceError, match="m:latest have no bound 30: another version"):
        records(samples)


def test_increases_that_are_fractions_or_infinite_do_no_harm() -> None:
    labels = {"model": "m:latest"}
    samples = [
        UsageSample(
            "ollama_model_idle_gap_seconds_bucket", {**labels, "le": f"{b:g}"}, 1.5 - 1e-9 * b
        )
        for b in BOUNDS
    ]
    samples += [
        UsageSample("ollama_model_idle_gap_truncated_seconds_total", {**labels, "le": f"{b}"}, 15.0)
        for b in BOUNDS
    ]
    samples += [
        UsageSample("ollama_model_idle_gap_seconds_bucket", {**labels, "le": "+Inf"}, 1.5),
        UsageSample("ollama_model_idle_gap_seconds_sum", labels, math.nan),
    ]
    (record,) = records(samples)
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
    with pytest.raises(SourceError, match=r"here (does not answer with|serves no) metrics"):
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
        'mistral:latest 80 82 not counted 42 -> 12 27.7 -> 35.7 5.0 s 5m "7m30s" provisional, '
        "a clear saving"
    )
    assert "~5.5 s" in text
    assert "5m?" in text
    assert "25 % of requests carry their own keep_alive (finite 15, never 5)" in text


@pytest.mark.parametrize("width", [40, 80, 109])
def test_a_narrow_terminal_gets_blocks_and_nothing_is_lost(width: int) -> None:
    text = " ".join(drawn(everything(), width).split())
    for expected in (
        'advised "7m30s", now 5m',
        "cold starts not counted, estimated 42 -> 12",
        "load ~5.5 s",
        "Price:",
    ):
        assert expected in text
    assert max(map(len, drawn(everything(), width).splitlines())) <= width


def test_without_colour_the_letters_tell_waiting_from_memory() -> None:
    _, f, _ = everything().findings
    lines = [line.plain for line in curve(f, width=100)]
    five = next(line for line in lines if line.strip().startswith("5m "))
    outcome, waiting, memory = f.advice.at(300.0), five.count("W"), five.count("M")
    share = outcome.cold_starts * f.inputs.load_seconds / outcome.cost
    assert 0.0 < share < 1.0
    assert waiting / (waiting + memory) == pytest.approx(share, abs=0.05)
    assert five.endswith("<- now")
    assert next(line for line in lines if "7m30s" in line).endswith("<- advised")
    assert any(">" in line for line in lines)
    assert 'Advised: "7m30s" (decided by the gaps' in lines[-1]


def test_the_curve_of_a_model_without_gaps_says_so() -> None:
    (f,) = told({"m:latest": Use()}).findings
    assert [line.plain for line in curve(f, width=60)][1].startswith(
        "No idle gap has been observed yet"
    )


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


# -- only what the history supports ----------------------------------------------------------------


def test_the_model_missed_least_takes_part_in_evictions_and_makes_room() -> None:
    found = told(
        {
            "chat:latest": Use(OFTEN, unloads={"evicted": 99}, evicted_by={"code:1": 99}),
            "code:1": Use(RARE, memory=14e9, unloads={"evicted": 98}),
            "pinned:1": Use(memory=4e9, keep_alive=math.inf),
            "bystander:1": Use(RARE[:6], memory=9e9),
            "tiny:1": Use(RARE[:8], memory=3e8, unloads={"evicted": 97}),
        }
    )
    ((_, verdict),) = found.verdicts
    assert "code:1 would be missed least" in verdict
    assert found.best is None
    assert "To apply" not in drawn(found, 140)


def test_nothing_is_named_as_missed_least_where_there_is_no_choice() -> None:
    found = told({"m:1": Use(OFTEN, unloads={"evicted": 9}, evicted_by={"n:1": 9}), "n:1": Use()})
    assert "missed least" not in found.verdicts[0][1]


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ([1000.0] * 3, "Too few idle gaps have been observed so far (3 of one model at most"),
        (
            [100.0, 60.0, 4000.0, 20.0, 25.0],
            "No other keep_alive would save more than chance explains",
        ),
    ],
)
def test_no_change_is_advised_that_the_gaps_do_not_support(gaps: list[float], said: str) -> None:
    found = told({"m:latest": Use(gaps, keep_alive=20.0)})
    assert said in found.verdicts[0][1]
    text = drawn(found, 140)
    assert "To apply" not in text
    assert "1 gaps" not in text


def test_cold_starts_that_were_counted_stand_beside_the_estimate() -> None:
    extra = "".join(
        f'{name}{{model="m:latest"}} {value}\n'
        for name, value in (
            ("ollama_model_loads_total", 101),
            ("ollama_cold_starts_total", 100),
        )
    )
    seen = told({"m:latest": Use(RARE, requests=200, keep_alive=7200.0)}, extra=extra).findings[0]
    unseen = told({"m:latest": Use(RARE, inferred=True, keep_alive=7200.0)}, extra=extra)
    assert (seen.cold_starts, seen.now.cold_starts) == (100.0, 0.0)
    assert unseen.findings[0].cold_starts == 101.0
    assert document(unseen)["models"][0]["cold_starts_counted"] == 101.0
    line = next(x for x in drawn(unseen, 140).splitlines() if x.startswith("m:latest"))
    assert " 101 " in line


def test_candidates_that_cost_the_same_are_marked() -> None:
    (f,) = told({"m:latest": Use([100.0] * 9)}, price=0.0).findings
    lines = [line.plain for line in curve(f, width=100)]
    assert sum(line.endswith("<- costs the same") for line in lines) > 10
    assert lines[0].startswith("m:latest: 9 idle gaps")


def test_a_foreign_name_breaks_neither_terminal_nor_snippet() -> None:
    name = 'a"]: [/red]\\x\x1b]0;own\x07\n- b'
    found = told({name: Use(OFTEN, requests=80)})
    for text in (drawn(found, 200), drawn(found, 60)):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[/red]" in text
    line = next(x for x in drawn(found, 200).splitlines() if "the proxy" in x)
    snippet = yaml.safe_load(line.split("the proxy", 1)[1])
    assert list(snippet["defaults"].values()) == [{"keep-alive": "7m30s"}]


def test_what_an_earlier_process_knew_is_not_denied() -> None:
    lines = "".join(
        f'{name}{{model="m:latest"}} {value}\n'
        for name, value in (
            ("ollama_model_advice_loads", 4),
            ("ollama_model_advice_load_seconds", 0.5),
            ("ollama_model_advice_since_timestamp_seconds", 2e9 - 30 * 86400),
        )
    )
    start = f"process_start_time_seconds {2e9 - 60}\n"
    found = told({"m:latest": Use(OFTEN, load=None)}, extra=lines + start)
    said = " ".join(found.warnings)
    assert "No load of" not in said
    assert "The history covers" not in said
    assert found.findings[0].inputs.load_seconds == 0.5
