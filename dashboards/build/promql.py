# SPDX-License-Identifier: Apache-2.0
"""Queries, put together so that a misspelt metric or label fails the build.

Every selector is narrowed to the dashboard's variables. Whatever is counted is rated over
`$__rate_interval` where it is drawn over time and over `$__range` where it is one number.
"""

from typing import Final

from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.residency.events import Reason

RATE: Final = "$__rate_interval"
RANGE: Final = "$__range"
TARGET: Final = ("job", "instance")
EACH: Final = ("job", "instance", "model")
# Of Prometheus and of the client library: not in our catalogue.
FOREIGN: Final = ("up", "process_resident_memory_bytes", "process_cpu_seconds_total")
HISTOGRAM: Final = ("_bucket", "_sum", "_count")
# What nobody asked for; the others are the keep-alive's, the operator's or a client's will.
UNEXPECTED: Final = f"{Reason.EVICTED}|{Reason.OUT_OF_MEMORY}|{Reason.CRASHED}|{Reason.UNKNOWN}"


def pick(metric: str, **matchers: str) -> str:
    """Select a metric of the catalogue; a matcher is written with its operator: `"=cold"`."""
    return metric + "{" + ", ".join(_matchers(metric, matchers)) + "}"


def in_effect() -> str:
    """Select the keep-alives in effect: seen exactly, or the roundest that deadlines allow."""
    exact, allowed = "ollama_model_keep_alive_seconds", "ollama_model_last_keep_alive_seconds"
    return f"({pick(exact)} or {pick(allowed)})"


def over(metric: str, window: str, **matchers: str) -> str:
    """Select it over a window."""
    return f"{pick(metric, **matchers)}[{window}]"


def rate(metric: str, *by: str, **matchers: str) -> str:
    """Rate of a counter per second, summed; drawn over time."""
    return total_of(f"rate({over(metric, RATE, **matchers)})", *by)


def events(metric: str, *by: str, **matchers: str) -> str:
    """Whole events of a counter in each step of a graph."""
    return f"round({total_of(f'increase({over(metric, RATE, **matchers)})', *by)})"


def total(metric: str, *by: str, **matchers: str) -> str:
    """Increase of a counter over the whole range that is shown, summed; one number."""
    return total_of(f"increase({over(metric, RANGE, **matchers)})", *by)


def quantile(share: float, metric: str, *by: str, window: str = RATE, **matchers: str) -> str:
    """Quantile of a histogram."""
    counts = total_of(f"increase({over(f'{metric}_bucket', window, **matchers)})", "le", *by)
    return f"histogram_quantile({share:g}, {counts})"


def buckets(metric: str, **matchers: str) -> str:
    """Count what fell into each bucket in each step of a graph."""
    return total_of(f"increase({over(f'{metric}_bucket', RATE, **matchers)})", "le")


def mean(metric: str, *by: str, window: str = RATE, **matchers: str) -> str:
    """Mean of what a histogram observed; nothing where there was nothing."""
    parts = [
        total_of(f"increase({over(f'{metric}_{part}', window, **matchers)})", *by)
        for part in ("sum", "count")
    ]
    return f"{parts[0]} / ({parts[1]} > 0)"


def share(part: str, whole: str) -> str:
    """Divide; nothing where the whole is 0."""
    return f"{part} / ({whole} > 0)"


def total_with_births(metric: str, *by: str) -> str:
    """Increase over the range of a counter whose series are born with their first event.

    Pairs of models are too many to create all of them at 0: what is younger than the range counts
    whole, what is older by its increase.
    """
    now = pick(metric)
    return total_of(f"({now} unless {now} offset {RANGE}) or increase({over(metric, RANGE)})", *by)


def total_of(expression: str, *by: str) -> str:
    """Sum, by labels or altogether."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def largest_of(expression: str, *by: str) -> str:
    """Take the largest, by labels or altogether."""
    return f"max by ({', '.join(by)}) ({expression})" if by else f"max({expression})"


def or_zero(expression: str) -> str:
    """Say 0 where there is nothing: only where nothing to count means none."""
    return f"({expression}) or vector(0)"


def _matchers(metric: str, wanted: dict[str, str]) -> list[str]:
    labels = _labels(metric)
    unknown = wanted.keys() - labels
    if unknown:
        raise ValueError(f"{metric} has no label {', '.join(sorted(unknown))}")
    base = {"job": "=~$job", "instance": "=~$instance"}
    if "model" in labels and "model" not in wanted:
        base["model"] = "=~$model"
    return [_matcher(label, text) for label, text in (base | wanted).items()]


def _matcher(label: str, text: str) -> str:
    operator = next(op for op in ("=~", "!~", "!=", "=") if text.startswith(op))
    return f'{label}{operator}"{text.removeprefix(operator)}"'


def _labels(metric: str) -> set[str]:
    if metric in FOREIGN:
        return set()
    family = FAMILIES.get(metric)
    if family is not None and family.kind != "histogram":
        return set(family.labels)
    for suffix in HISTOGRAM:
        family = FAMILIES.get(metric.removesuffix(suffix))
        if metric.endswith(suffix) and family is not None and family.kind == "histogram":
            return {*family.labels, *(("le",) if suffix == "_bucket" else ())}
    raise ValueError(f"{metric} is not in the catalogue")
