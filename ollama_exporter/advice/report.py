# SPDX-License-Identifier: Apache-2.0
"""What is to be said of a history: each model's advice beside what is in force, and the host. Pure.

Whatever cannot be seen is said: gaps that polls alone showed, loads nobody measured, a short past.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ollama_exporter.advice.keep_alive_advice import (
    CANDIDATES,
    GB,
    MEASURED_TIME,
    PRICE,
    Advice,
    CostInputs,
    CostOutcome,
    advise,
    surely_saved,
)
from ollama_exporter.advice.model_usage import Record, UsageHistory
from ollama_exporter.protocol.keepalive import DEFAULT, literal

OFTEN: Final = 3.0  # fewer events are no pattern
SHARE: Final = 0.2  # of all unloads, from which on something stands in the way of any keep_alive
WORTH: Final = 0.05  # share of its present cost that a change must save to be named
COVERED: Final = 0.95


@dataclass(frozen=True, slots=True)
class Finding:
    """One model: what is advised, what is in force, what either led or would have led to."""

    record: Record
    habits: CostInputs
    advice: Advice
    in_force: float  # keep-alive, seconds
    in_force_known: bool
    now: CostOutcome
    then: CostOutcome
    sure: bool  # the change saves something, but for a chance of one in twenty

    @property
    def model(self) -> str:
        """Its name."""
        return self.record.model

    @property
    def title(self) -> str:
        """Its name, and its host where hosts are kept apart."""
        return f"{self.model} on {self.record.group}" if self.record.group else self.model

    @property
    def saved(self) -> float:
        """Seconds of waiting, or their worth in memory, that the advised value saves."""
        return self.now.cost - self.then.cost

    @property
    def changes(self) -> bool:
        """The advice is another value than what is in force, and saves something worth naming."""
        return self.saved > WORTH * self.now.cost

    @property
    def requests(self) -> float | None:
        """Requests that were seen; None: none are."""
        seen = self.record.values.get("ollama_requests_total", 0.0)
        return seen if seen > 0 else None

    @property
    def own_share(self) -> float | None:
        """Share of requests that carried a keep_alive of their own; None: none were seen."""
        classes = self.record.keep_alives
        total = sum(classes.values())
        return 1 - classes.get("absent", 0.0) / total if total > 0 else None


@dataclass(frozen=True, slots=True)
class Report:
    """All that there is to say."""

    history: UsageHistory
    price: float
    findings: tuple[Finding, ...]
    verdicts: tuple[tuple[str, str], ...]  # host (empty: all together) and what is to be said of it
    for_all: float  # the one value that would cost least for all models together
    warnings: tuple[str, ...]


def report(history: UsageHistory, *, price: float = PRICE) -> Report:
    """Weigh a history. `price`: seconds of waiting that a GB-hour is worth."""
    findings = tuple(_finding(r, price) for r in history.records if r.used and r.memory > 0)
    return Report(
        history,
        price,
        findings,
        _verdicts(findings),
        _for_all(findings),
        tuple(_warnings(history, findings)),
    )


def _finding(record: Record, price: float) -> Finding:
    habits = record.habits()
    advice = advise(habits, price=price)
    known = record.keep_alive
    in_force = DEFAULT if known is None else known
    now, then = advice.at(in_force), advice.advised
    sure = surely_saved(habits, advice.keep_alive, in_force, price=price) > 0
    return Finding(record, habits, advice, in_force, known is not None, now, then, sure)


def _for_all(findings: Sequence[Finding]) -> float:
    if not findings:
        return DEFAULT
    costs = [sum(f.advice.outcomes[j].cost for f in findings) for j in range(len(CANDIDATES))]
    best = min(range(len(costs)), key=costs.__getitem__)
    return max(f.advice.outcomes[best].keep_alive for f in findings)


def _verdicts(findings: Sequence[Finding]) -> tuple[tuple[str, str], ...]:
    groups = sorted({f.record.group for f in findings}) or [""]
    return tuple((g, verdict([f for f in findings if f.record.group == g])) for g in groups)


# -- the host --------------------------------------------------------------------------------------


def verdict(findings: Sequence[Finding]) -> str:
    """Say in one sentence what stands in the way, or what would help most."""
    unloads = sum(sum(f.record.unloads.values()) for f in findings)
    for reasons, say in (
        (("evicted",), _crowded),
        (("options_changed",), _quarrel),
        (("crashed", "out_of_memory"), _failing),
    ):
        counts = {f.model: sum(f.record.unloads.get(r, 0.0) for r in reasons) for f in findings}
        total = sum(counts.values())
        if total >= OFTEN and total >= SHARE * unloads:
            worst = max(findings, key=lambda f: counts[f.model])
            return say(worst, findings, f"{total:.0f} of {unloads:.0f} unloads")
    known = [f for f in findings if f.advice.samples]
    if not known:
        return "Nothing is known of idle times yet: the advice is the break-even time alone."
    best = max(known, key=lambda f: f.saved)
    evicted = sum(f.record.unloads.get("evicted", 0.0) for f in findings)
    fit = f"The models fit (evictions: {evicted:.0f})" if evicted else "Nothing was evicted"
    if not best.changes:
        return f"{fit}, and no other keep_alive would save much."
    return f"{fit}; what would help most: {best.model} with {literal(best.advice.keep_alive)}, " + (
        difference(best.now, best.then)
    )


def difference(now: CostOutcome, then: CostOutcome) -> str:
    """Say what a change brings and what it takes."""
    cold, memory = now.cold_starts - then.cold_starts, then.idle_gb_hours - now.idle_gb_hours
    starts = f"{_count(abs(cold))} cold starts {'fewer' if cold >= 0 else 'more'}"
    hours = f"{abs(memory):.1f} GB-hours {'more' if memory >= 0 else 'less'}"
    return f"{starts}, {hours} held idle."


def _crowded(worst: Finding, findings: Sequence[Finding], share: str) -> str:
    by = max(worst.record.evicted_by, key=worst.record.evicted_by.__getitem__, default="")
    other = next((f for f in findings if f.model == by), None)
    who = f"{worst.model} and {by}" if by else f"{worst.model} and others"
    together = worst.habits.memory_bytes + (other.habits.memory_bytes if other else 0.0)
    size = f" ({together / GB:.1f} GB together)" if other else ""
    least = min(findings, key=_worth)
    return (
        f"The models do not fit together: {share} are evictions, above all {who}{size}. No "
        "keep_alive mends that: a smaller quantization or context, fewer models, or more memory. "
        f"The shortest keep_alive is evicted first: best {least.model}, which is missed least."
    )


def _worth(f: Finding) -> float:
    """Return what a byte of the model saves in loads: who has least of it should go first."""
    return f.advice.samples * f.habits.load_seconds / f.habits.memory_bytes


def _quarrel(worst: Finding, _: Sequence[Finding], share: str) -> str:
    return (
        f"{worst.model} is loaded again and again because clients ask for different options "
        f"({share}): the same num_ctx for all would help most."
    )


def _failing(worst: Finding, _: Sequence[Finding], share: str) -> str:
    return f"{worst.model} crashes or runs out of memory ({share}): no keep_alive mends that."


# -- what is not seen ------------------------------------------------------------------------------


def _warnings(history: UsageHistory, findings: Sequence[Finding]) -> Iterable[str]:
    if history.hosts > 1 and not any(f.record.group for f in findings):
        yield (
            f"The use of {history.hosts} hosts is summed: right where they are used alike; "
            "--by instance keeps them apart."
        )
    unseen = [f.title for f in findings if not f.record.seen]
    if unseen:
        yield (
            f"No requests were seen of {_names(unseen)} (no proxy): idle gaps are inferred from "
            "deadlines, those below the poll interval are missing, answering counts as idle, and "
            "which keep_alive clients ask for is not known."
        )
    assumed = [f.title for f in findings if f.record.measured_load is None]
    if assumed:
        yield f"Nobody measured a load of {_names(assumed)}: its time is assumed from the size."
    default = [f.title for f in findings if not f.in_force_known]
    if default:
        yield f"Which keep_alive is in force for {_names(default)} is not known: 5m is assumed."
    pinned = [f.title for f in findings if math.isinf(f.in_force) and f.requests is None]
    if pinned:
        yield f"{_names(pinned)}: kept for ever, so that polls show no use of it."
    gone = [f.title for f in findings if not f.record.installed]
    if gone and len(gone) < len(findings):
        yield f"{_names(gone)}: not installed any more, removed or renamed."
    if history.span is not None and history.span < MEASURED_TIME:
        yield (
            f"The history reaches back {_span(history.span)}: the rhythm of a week is not in it."
        )
    if history.covered < COVERED:
        missing = 100 * (1 - history.covered)
        yield f"For {missing:.0f} % of that time there are no samples: gaps of then are missing."
    yield from history.remarks


def _names(models: Sequence[str]) -> str:
    shown = ", ".join(models[:3])
    return shown if len(models) <= 3 else f"{shown} and {len(models) - 3} more"  # noqa: PLR2004


def _span(seconds: float) -> str:
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def _count(value: float) -> str:
    return f"{value:.0f}" if value >= 10 or value == round(value) else f"{value:.1f}"  # noqa: PLR2004
