# SPDX-License-Identifier: Apache-2.0
"""The reasons on recordings of a real server, against the truth that its own log told."""

from collections import Counter
from functools import cache
from statistics import median

import pytest
from msgspec.structs import asdict, replace

from bench.leave_one_out import COLUMNS, GRID, USUAL, Job, Results, candidates, fit, of_groups
from bench.rehearsed import total
from bench.scoring import Score
from bench.truth import RECORDINGS, Evidence, add, count, foreseen, has, judge, names, truth_of
from ollama_exporter.recordings.format import Recording
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.residency.rules.sureness import COUNTED, share
from tests.support.paths import DATA, ROOT

NEW = ("agents-2", "batch-2", "faults-2", "mixed-3", "office-1", "stuck-2", "thrash-2")
WITH_PROCESSES = tuple(name for name in NEW if name != "office-1")
ORDINARY = ("office-1", "batch-2")
SIZES = ("sizes-1",)
OLD = ("old-1",)
LOGGED = ("faults-2", "mixed-3", "sizes-1", "old-1")
PAGE = ROOT / "docs" / "unload-reasons.md"
CHANGED = 4  # reasons in which the figures on the page may be older than the rules
POLLS = Evidence()
REQUESTS = Evidence(requests=True)
PROCESSES = Evidence(processes=True)
BOTH = Evidence(requests=True, processes=True)


@cache
def recorded(name: str) -> Recording:
    return read_recording(RECORDINGS / f"{name}.jsonl.gz")


@cache
def judge_one(name: str, evidence: Evidence, begin: float = 0.0) -> Score:
    truth = RECORDINGS / f"{name}.truth.jsonl"
    return judge(recorded(name).since(begin), truth, interval=15.0, evidence=evidence)


def judge_all(names: tuple[str, ...], evidence: Evidence, begin: float = 0.0) -> Score:
    return sum((judge_one(name, evidence, begin) for name in names), Score())


@cache
def judged_by_all_evidence() -> dict[str, Score]:
    kinds = (POLLS, PROCESSES, BOTH)
    return {name: sum((judge_one(name, kind) for kind in kinds), Score()) for name in names()}


@pytest.mark.parametrize(
    ("names", "evidence", "right", "wrong"),
    [
        pytest.param(NEW, POLLS, 0.82, 0.055, id="polls only, server 0.33"),
        pytest.param(SIZES, POLLS, 0.76, 0.085, id="polls only, models of different sizes"),
        pytest.param(ORDINARY, POLLS, 0.93, 0.015, id="polls only, ordinary use"),
        pytest.param(OLD, POLLS, 0.75, 0.07, id="polls only, server 0.24"),
        pytest.param(NEW + SIZES, REQUESTS, 0.985, 0.013, id="all requests seen, server 0.33"),
        pytest.param(OLD, REQUESTS, 0.94, 0.05, id="all requests seen, server 0.24"),
        pytest.param(WITH_PROCESSES, PROCESSES, 0.96, 0.025, id="processes"),
        pytest.param(WITH_PROCESSES, BOTH, 0.995, 0.003, id="processes, all requests seen"),
        pytest.param(SIZES, PROCESSES, 0.94, 0.04, id="processes, models of different sizes"),
        pytest.param(SIZES, BOTH, 0.98, 0.015, id="both, models of different sizes"),
        pytest.param(
            LOGGED, Evidence(log="debug"), 1.0, 0.0, id="log at debug level, without processes"
        ),
        pytest.param(
            LOGGED, Evidence(processes=True, log="debug"), 1.0, 0.0, id="log at debug level"
        ),
        pytest.param(
            LOGGED, Evidence(requests=True, processes=True, log="info"), 0.98, 0.015,
            id="log at the default level, all requests seen",
        ),
        pytest.param(
            LOGGED[:3], Evidence(processes=True, log="info"), 0.965, 0.025,
            id="log at the default level, processes",
        ),
        pytest.param(
            OLD, Evidence(log="info"), 0.85, 0.07, id="log at the default level, polls, server 0.24"
        ),
    ],
)  # fmt: skip
def test_reasons_reach_their_accuracy(
    names: tuple[str, ...], evidence: Evidence, right: float, wrong: float
) -> None:
    result = judge_all(names, evidence)
    assert result.right >= right * result.judged
    assert result.wrong <= wrong * result.judged


@pytest.mark.parametrize("begin", [5.0, 11.0])
def test_with_processes_the_moment_at_which_polling_begins_hardly_matters(begin: float) -> None:
    processes = judge_all(WITH_PROCESSES + SIZES, PROCESSES, begin)
    both = judge_all(WITH_PROCESSES + SIZES, BOTH, begin)
    assert processes.right >= 0.96 * processes.judged
    assert processes.wrong <= 0.03 * processes.judged
    assert both.right >= 0.985 * both.judged
    assert both.wrong <= 0.01 * both.judged


@pytest.mark.parametrize("evidence", [POLLS, PROCESSES, BOTH], ids=["polls", "processes", "both"])
def test_every_visible_unload_is_said_and_none_is_invented(evidence: Evidence) -> None:
    result = judge_all(NEW + SIZES + OLD, evidence)
    assert (result.missed, result.invented) == (0, 0)


def test_an_expiry_is_called_nothing_else_and_an_eviction_hardly_ever_an_expiry() -> None:
    result = judge_all(NEW + SIZES + OLD, POLLS)
    assert result.said_instead("expired") == 0
    assert result.said_instead("evicted", "expired") <= 1


def test_what_no_poll_could_show_is_found_by_its_process() -> None:
    with_processes = judge_all(WITH_PROCESSES, PROCESSES)
    without = judge_all(WITH_PROCESSES, POLLS)
    # Most of what the polls alone cannot show is shown by the polls that births and deaths ask for.
    still_hidden = with_processes.hidden[False]
    assert without.hidden.total() >= 30
    assert still_hidden <= 2


def test_a_reason_is_settled_soon_after_the_fact() -> None:
    delays = judge_all(WITH_PROCESSES, PROCESSES).delays
    assert median(delays["expired"]) <= 0.25
    assert median(delays["server_restarted"]) <= 0.25
    assert median(delays["evicted"]) <= 5.9
    # Its new context shows once it is listed: the wait for memory and a load.
    assert median(delays["options_changed"]) <= 9.9


@pytest.mark.parametrize(
    ("names", "fewer", "more", "spoiled"),
    [
        # Most of these have two causes: stopped or crashed, and to be evicted anyway.
        pytest.param(NEW + SIZES + OLD, POLLS, REQUESTS, 0.012, id="requests"),
        pytest.param(WITH_PROCESSES + SIZES, POLLS, PROCESSES, 0.012, id="processes"),
        pytest.param(WITH_PROCESSES + SIZES, REQUESTS, BOTH, 0.0, id="processes beside requests"),
        # A line of the log brings a poll forward, and that may see less than the one it replaces.
        pytest.param(LOGGED, POLLS, Evidence(log="info"), 0.015, id="log"),
        pytest.param(LOGGED[:2], POLLS, Evidence(log="debug"), 0.0, id="log at debug level"),
        pytest.param(
            LOGGED[:2], PROCESSES, Evidence(processes=True, log="info"), 0.005, id="log, processes"
        ),
        pytest.param(
            LOGGED[:3], BOTH, Evidence(requests=True, processes=True, log="debug"), 0.0, id="all"
        ),
    ],
)
def test_a_further_source_spoils_hardly_any_right_reason(
    names: tuple[str, ...], fewer: Evidence, more: Evidence, spoiled: float
) -> None:
    right, not_right = 0, 0
    for name in names:
        before = {(x.t, x.model) for x in judge_one(name, fewer).verdicts if x.right}
        after = {(true["t"], true["model"]) for true, _ in judge_one(name, more).mistakes}
        right += len(before)
        not_right += len(before & after)
    assert right > 100
    assert not_right <= spoiled * right


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.0), (0.8, 0.9)])
def test_how_sure_a_reason_is_holds_on_a_recording_that_did_not_count(
    low: float, high: float
) -> None:
    results = judged_by_all_evidence()
    counted = {name: count(score.verdicts) for name, score in results.items()}
    said = [pair for name in results for pair in foreseen(results, counted, name)]
    within = [right for sure, right in said if low <= sure < high]
    assert len(within) > 50
    assert sum(within) >= low * len(within)


def test_no_reason_is_given_that_is_not_right_twice_as_often_as_wrong() -> None:
    often = {evidence: pair for evidence, pair in COUNTED.items() if pair[1] >= 6}
    assert len(often) > 20
    assert {x: (right, of) for x, (right, of) in often.items() if right < 2 * (of - right)} == {}


def test_how_sure_a_reason_is_stands_as_the_recordings_count_it() -> None:
    results = judged_by_all_evidence()
    counted = add(count(score.verdicts) for score in results.values())
    common = {evidence for evidence, (_, of) in counted.items() if of >= 20}
    off = {x: (share(x, counted), share(x, COUNTED)) for x in common}
    assert len(common) > 5
    assert {x: pair for x, pair in off.items() if abs(pair[0] - pair[1]) > 0.05} == {}


def scored(right: int, wrong: int) -> Score:
    pairs = {("evicted", "evicted"): right, ("stopped", "evicted"): wrong}
    return Score(Counter(pairs))


def test_a_tolerance_is_fitted_to_all_recordings_but_the_one_that_it_judges() -> None:
    judged: dict[Job, Results] = {
        (name, tolerances): {"polls only": scored(10, 5)}
        for name in ("one", "two", "three")
        for tolerances in candidates()
    }
    wider, narrower = (replace(USUAL, replaced_within=x) for x in (30.0, 6.0))
    judged["one", wider] = {"polls only": scored(13, 2)}
    judged["two", narrower] = {"polls only": scored(11, 4)}
    assert fit(judged, "one").replaced_within == 6.0
    assert fit(judged, "two").replaced_within == fit(judged, "three").replaced_within == 30.0


def test_each_tolerance_is_fitted_and_its_usual_value_is_among_those_that_are_tried() -> None:
    assert {name: value for name, value in asdict(USUAL).items() if value in GRID[name]} == asdict(
        USUAL
    )


@pytest.mark.parametrize(
    ("title", "evidence"),
    [("polls only", POLLS), ("processes", PROCESSES), ("both", BOTH)],
)
def test_the_page_says_how_often_the_reasons_are_right(title: str, evidence: Evidence) -> None:
    judged = {
        name: {title: judge_one(name, evidence)}
        for name in names()
        if has(evidence, recorded(name), truth_of(name))
    }
    totals = of_groups(judged, title)
    table = PAGE.read_text("utf-8").partition("<!-- by evidence -->\n")[2]
    row = next(line for line in table.splitlines() if line.startswith(f"| {title} |"))
    for group, told in zip(COLUMNS, row.split("|")[4 : 4 + len(COLUMNS)], strict=True):
        right, wrong = map(float, told.split("/"))
        found, again = totals[group], "python -m bench.leave_one_out --write docs/unload-reasons.md"
        assert right * found.judged / 100 == pytest.approx(found.right, abs=CHANGED), again
        assert wrong * found.judged / 100 == pytest.approx(found.wrong, abs=CHANGED), again


def test_the_page_says_which_tolerances_are_used() -> None:
    told = PAGE.read_text("utf-8")
    assert [x for x, value in asdict(USUAL).items() if f"| `{x}` | {value:g} |" not in told] == []


def test_the_recordings_are_the_project_s_own_copies() -> None:
    assert DATA / "polls" == RECORDINGS


@pytest.mark.parametrize(
    ("host", "evidence", "right", "wrong"),
    [
        ("16 GB, waits of 1 and 3 s", "processes", 0.92, 0.04),
        ("16 GB, waits of 1 and 3 s", "both", 0.98, 0.01),
        ("CPU", "both", 0.98, 0.01),
    ],
)
def test_the_rules_hold_on_hosts_that_they_were_not_made_on(
    host: str, evidence: str, right: float, wrong: float
) -> None:
    result = total(1, evidence, host=host)
    assert (result.missed, result.judged > 50) == (0, True)
    assert result.right >= right * result.judged
    assert result.wrong <= wrong * result.judged
