# SPDX-License-Identifier: Apache-2.0
"""Reports on a history: each model's advice beside the keep-alive in effect, and the host. Pure.

The report names what the history cannot show: gaps that polls alone showed, loads that were not
measured, a short past.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct

from ollama_exporter.advice.keep_alive_advice import (
    CANDIDATES,
    GB,
    LEAST_GAPS,
    MEASURED_TIME,
    PRICE,
    Advice,
    CostInputs,
    CostOutcome,
    advise,
    surely_saved,
)
from ollama_exporter.advice.model_usage import UsageHistory, UsageRecord
from ollama_exporter.protocol.keepalive import DEFAULT, literal

OFTEN: Final = 3.0  # unloads for one reason from which on they are a pattern
SHARE: Final = 0.2  # and their share of all unloads
WORTH: Final = 0.05  # share of its present cost that a change must save to be named
COVERED: Final = 0.95
ROOM: Final = 0.25  # of the evictor's memory: a smaller model makes too little room for it
NAMED: Final = 3  # models that a warning names


class Finding(Struct, frozen=True):
    """One model: the keep-alive in effect, the advised one, and what each of them costs."""

    record: UsageRecord
    inputs: CostInputs
    advice: Advice
    in_force: float  # keep-alive, seconds
    in_force_known: bool
    now: CostOutcome
    then: CostOutcome
    sure: bool  # the change saves something at a confidence of 95 %

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.record.model

    @property
    def title(self) -> str:
        """Name of the model, with its host if hosts are kept apart."""
        return f"{self.model} on {self.record.group}" if self.record.group else self.model

    @property
    def saved(self) -> float:
        """Seconds of waiting, or their worth in memory, that the advised value saves."""
        return self.now.cost - self.then.cost

    @property
    def changes(self) -> bool:
        """Whether the advised value saves enough over the present one to be named."""
        return self.saved > WORTH * self.now.cost

    @property
    def is_supported(self) -> bool:
        """Whether the gaps support the change: it saves enough, and more than by chance."""
        return self.changes and self.sure

    @property
    def requests(self) -> float | None:
        """Number of observed requests; None: requests are not observed."""
        seen = self.record.values.get("ollama_requests_total", 0.0)
        return seen if seen > 0 else None

    @property
    def cold_starts(self) -> float | None:
        """Cold starts that were counted, whatever caused them; None: nothing counts them.

        Without requests these are the loads: each of them made a request wait.
        """
        name = "ollama_model_loads_total" if self.requests is None else "ollama_cold_starts_total"
        return self.record.values.get(name)

    @property
    def own_share(self) -> float | None:
        """Share of requests with a keep_alive of their own; None: requests are not observed.

        Those whose keep_alive the server refuses are left out: they reach no runner.
        """
        classes = {c: n for c, n in self.record.keep_alives.items() if c != "refused"}
        total = sum(classes.values())
        return 1 - classes.get("absent", 0.0) / total if total > 0 else None


class Report(Struct, frozen=True):
    """Everything that there is to report."""

    history: UsageHistory
    price: float
    findings: tuple[Finding, ...]
    verdicts: tuple[tuple[str, str], ...]  # host (empty: all hosts) and its verdict
    best: Finding | None  # the supported change that saves most, where nothing stands in its way
    for_all: float  # the one keep-alive that would cost least for all models together
    warnings: tuple[str, ...]


def report(history: UsageHistory, *, price: float = PRICE) -> Report:
    """Return the report. `price`: seconds of waiting that a GB-hour is worth."""
    findings = tuple(_finding(r, price) for r in history.records if r.used and r.memory > 0)
    groups = sorted({f.record.group for f in findings}) or [""]
    verdicts = [(g, verdict([f for f in findings if f.record.group == g])) for g in groups]
    best = [found.best for _, found in verdicts if found.best is not None]
    return Report(
        history,
        price,
        findings,
        tuple((group, found.text) for group, found in verdicts),
        max(best, key=lambda f: f.saved, default=None),
        _for_all(findings),
        tuple(_warnings(history, findings)),
    )


def _finding(record: UsageRecord, price: float) -> Finding:
    inputs = record.cost_inputs()
    advice = advise(inputs, price=price)
    known = record.keep_alive
    in_force = DEFAULT if known is None else known
    now, then = advice.at(in_force), advice.advised
    sure = surely_saved(inputs, advice.keep_alive, in_force, price=price) > 0
    return Finding(record, inputs, advice, in_force, known is not None, now, then, sure)


def _for_all(findings: Sequence[Finding]) -> float:
    if not findings:
        return DEFAULT
    costs = [sum(f.advice.outcomes[j].cost for f in findings) for j in range(len(CANDIDATES))]
    best = min(range(len(costs)), key=costs.__getitem__)
    return max(f.advice.outcomes[best].keep_alive for f in findings)


# -- the host --------------------------------------------------------------------------------------


class HostVerdict(Struct, frozen=True):
    """What stands in the way of a keep-alive, or what would help most, in a sentence or two."""

    text: str
    best: Finding | None = None  # the change that would help most


def verdict(findings: Sequence[Finding]) -> HostVerdict:
    """Return the verdict on one host, or on all hosts together."""
    unloads = sum(sum(f.record.unloads.values()) for f in findings)
    for reasons, explain in _OBSTACLES:
        counts = {f.model: sum(f.record.unloads.get(r, 0.0) for r in reasons) for f in findings}
        total = sum(counts.values())
        if total >= OFTEN and total >= SHARE * unloads:
            worst = max(findings, key=lambda f: counts[f.model])
            share = f"{total:.0f} of {_plural(unloads, 'unload')}"
            return HostVerdict(explain(worst, findings, share))
    gaps = max((f.advice.samples for f in findings), default=0)
    if not gaps:
        return HostVerdict(
            "No idle time has been observed yet: the advice is the break-even time alone."
        )
    if gaps < LEAST_GAPS:
        return HostVerdict(
            f"Too few idle gaps have been observed so far ({gaps} of one model at most; at least "
            f"{LEAST_GAPS} are needed): the advice is the break-even time alone."
        )
    evicted = sum(f.record.unloads.get("evicted", 0.0) for f in findings)
    fit = f"The models fit ({_plural(evicted, 'eviction')})" if evicted else "Nothing was evicted"
    best = max((f for f in findings if f.is_supported), key=lambda f: f.saved, default=None)
    if best is not None:
        value = literal(best.advice.keep_alive)
        change = difference(best.now, best.then)
        return HostVerdict(
            f"{fit}. The change that helps most is {best.model} with {value}: {change}", best
        )
    if any(f.changes for f in findings):
        return HostVerdict(f"{fit}. No other keep_alive would save more than chance explains.")
    return HostVerdict(f"{fit}. No other keep_alive would save much.")


def difference(now: CostOutcome, then: CostOutcome) -> str:
    """Return what a change saves and what it costs."""
    cold, memory = now.cold_starts - then.cold_starts, then.idle_gb_hours - now.idle_gb_hours
    starts = f"{_plural(abs(cold), 'cold start')} {'fewer' if cold >= 0 else 'more'}"
    hours = f"{abs(memory):.1f} GB-hours {'more' if memory >= 0 else 'less'}"
    return f"{starts}, {hours} of idle memory."


def _crowded(worst: Finding, findings: Sequence[Finding], share: str) -> str:
    by = max(worst.record.evicted_by, key=worst.record.evicted_by.__getitem__, default="")
    other = next((f for f in findings if f.model == by), None)
    pair = f"{worst.model} and {by}" if by else f"{worst.model} and others"
    together = worst.inputs.memory_bytes + (other.inputs.memory_bytes if other else 0.0)
    size = f" ({together / GB:.1f} GB together)" if other else ""
    text = (
        f"The models do not fit together: {share} are evictions, above all {pair}{size}. No "
        "keep_alive fixes that: use smaller quantizations or contexts, fewer models, more memory."
    )
    least = _least_missed(findings)
    if least is None:
        return text
    return (
        f"{text} The model with the shortest keep_alive is evicted first; {least.model} would be "
        "missed least."
    )


def _least_missed(findings: Sequence[Finding]) -> Finding | None:
    """Return the model whose eviction would cost least; None: that cannot be known.

    Only models that take part in evictions count, with idle gaps that were observed, and with
    enough memory to make room for the models that need it.
    """
    needed = {name for f in findings for name, n in f.record.evicted_by.items() if n > 0}
    evictors = [f.inputs.memory_bytes for f in findings if f.model in needed]
    enough = ROOM * max(evictors, default=0.0)
    candidates = [
        f
        for f in findings
        if (f.model in needed or f.record.unloads.get("evicted", 0.0) > 0)
        and f.advice.samples >= LEAST_GAPS
        and f.inputs.memory_bytes >= enough
    ]
    if len(candidates) < 2:  # noqa: PLR2004 - there is nothing to choose from
        return None
    return min(candidates, key=_worth)


def _worth(f: Finding) -> float:
    """Return the seconds of loading that each byte of the model saves."""
    return f.advice.samples * f.inputs.load_seconds / f.inputs.memory_bytes


def _conflicting(worst: Finding, _: Sequence[Finding], share: str) -> str:
    return (
        f"{worst.model} is reloaded repeatedly because clients ask for different options "
        f"({share}). Use one num_ctx in all clients."
    )


def _failing(worst: Finding, _: Sequence[Finding], share: str) -> str:
    return f"{worst.model} crashes or runs out of memory ({share}). No keep_alive fixes that."


_Explain = Callable[[Finding, Sequence[Finding], str], str]
_OBSTACLES: Final[tuple[tuple[tuple[str, ...], _Explain], ...]] = (
    (("evicted",), _crowded),
    (("options_changed",), _conflicting),
    (("crashed", "out_of_memory"), _failing),
)


# -- what is not known -----------------------------------------------------------------------------


def _warnings(history: UsageHistory, findings: Sequence[Finding]) -> Iterable[str]:
    if history.hosts > 1 and not any(f.record.group for f in findings):
        yield (
            f"{history.hosts} hosts are taken together, which is right if they are used alike. "
            "--by instance separates them."
        )
    unseen = [f.title for f in findings if not f.record.seen]
    if unseen:
        yield (
            f"Requests for {_names(unseen)} are not seen (no proxy). Their idle gaps are inferred "
            "from deadlines: gaps below the poll interval are missing, the time to answer counts "
            "as idle, and the keep_alive of requests is unknown."
        )
    measured = [f.title for f in findings if f.record.by_slots]
    if measured:
        yield (
            f"Idle gaps of {_names(measured)} are measured at the slots, to within 5 s. The "
            "keep_alive of requests is unknown."
        )
    assumed = [f.title for f in findings if not f.record.load_is_measured]
    if assumed:
        yield f"No load of {_names(assumed)} was measured: its time is estimated from the size."
    default = [f.title for f in findings if not f.in_force_known]
    if default:
        yield f"The current keep_alive of {_names(default)} is unknown; 5m is assumed."
    pinned = [f.title for f in findings if math.isinf(f.in_force) and f.requests is None]
    if pinned:
        never = "never expires" if len(pinned) == 1 else "never expire"
        yield f"{_names(pinned)} {never}, so polls cannot show when it is used."
    gone = [f.title for f in findings if not f.record.installed]
    if gone and len(gone) < len(findings):
        no_longer = "is" if len(gone) == 1 else "are"
        yield f"{_names(gone)} {no_longer} no longer installed: removed or renamed."
    if history.span is not None and history.span < MEASURED_TIME:
        yield f"The history covers only {_span(history.span)}, so it shows no weekly pattern."
    if history.covered < COVERED:
        missing = 100 * (1 - history.covered)
        yield f"{missing:.0f} % of that time has no samples, so its idle gaps are missing."
    yield from history.warnings


def _names(models: Sequence[str]) -> str:
    shown = ", ".join(models[:NAMED])
    return shown if len(models) <= NAMED else f"{shown} and {len(models) - NAMED} more"


def _span(seconds: float) -> str:
    if seconds < 2 * 3600:
        return _plural(round(seconds / 60), "minute")
    return f"{seconds / 3600:.0f} hours" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def _plural(value: float, noun: str) -> str:
    """Return a number with its noun: `1 gap`, `2 gaps`, `1.5 gaps`."""
    text = f"{value:.0f}" if value >= 10 or value == round(value) else f"{value:.1f}"  # noqa: PLR2004 - three digits are enough
    return f"{text} {noun}" if text == "1" else f"{text} {noun}s"
