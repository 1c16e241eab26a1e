# SPDX-License-Identifier: Apache-2.0
"""Queries. A misspelt metric or label fails the build.

Every selector is limited to the dashboard's variables. Counters use `$__rate_interval` where they
are drawn over time and `$__range` where they are one number.
"""

from typing import Final

from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.residency.events import Reason

RATE: Final = "$__rate_interval"
RANGE: Final = "$__range"
TARGET: Final = ("job", "instance")
EACH: Final = ("job", "instance", "model")
# From Prometheus and the client library, so not in our catalogue.
FOREIGN: Final = ("up", "process_resident_memory_bytes", "process_cpu_seconds_total")
ENOUGH_GAPS: Final = 20  # below that, the advice is a rule of thumb
HISTOGRAM: Final = ("_bucket", "_sum", "_count")
# Not wanted by a keep-alive, an operator or a client.
UNEXPECTED: Final = f"{Reason.EVICTED}|{Reason.OUT_OF_MEMORY}|{Reason.CRASHED}|{Reason.UNKNOWN}"


def pick(metric: str, **matchers: str) -> str:
    """Select a metric of the catalogue; a matcher is written with its operator: `"=cold"`."""
    return metric + "{" + ", ".join(_matchers(metric, matchers)) + "}"


def in_effect() -> str:
    """Select the keep-alives in effect: exact ones, else the roundest that deadlines allow."""
    exact, allowed = "ollama_model_keep_alive_seconds", "ollama_model_last_keep_alive_seconds"
    return f"({pick(exact)} or {pick(allowed)})"


def advised() -> str:
    """Select the advised keep-alives that rest on enough idle gaps to follow them."""
    samples = f"{pick('ollama_model_advice_samples')} >= {ENOUGH_GAPS}"
    metric = pick("ollama_model_advised_keep_alive_seconds")
    return f"({metric} and on ({', '.join(EACH)}) {samples})"


def rounded(expression: str) -> str:
    """Return it in thousandths: what is next to nothing reads 0."""
    return f"round({expression}, 0.001)"


def until(metric: str) -> str:
    """Return the seconds until a moment; 0 once it is past."""
    return f"clamp_min({pick(metric)} - time(), 0)"


def since(metric: str) -> str:
    """Return the seconds since a moment; 0 if the server's clock is ahead of Prometheus's."""
    return f"clamp_min(time() - {pick(metric)}, 0)"


def over(metric: str, window: str, **matchers: str) -> str:
    """Select a metric over a window."""
    return f"{pick(metric, **matchers)}[{window}]"


def rate(metric: str, *by: str, **matchers: str) -> str:
    """Return the summed rate of a counter per second, over time."""
    return total_of(f"rate({over(metric, RATE, **matchers)})", *by)


def events(metric: str, *by: str, **matchers: str) -> str:
    """Return the whole events of a counter in each step of a graph."""
    return f"round({total_of(f'increase({over(metric, RATE, **matchers)})', *by)})"


def total(metric: str, *by: str, **matchers: str) -> str:
    """Return the summed increase of a counter over the whole range: one number."""
    return total_of(f"increase({over(metric, RANGE, **matchers)})", *by)


def quantile(share: float, metric: str, *by: str, window: str = RATE, **matchers: str) -> str:
    """Return a quantile of a histogram."""
    counts = total_of(f"increase({over(f'{metric}_bucket', window, **matchers)})", "le", *by)
    return f"histogram_quantile({share:g}, {counts})"


def buckets(metric: str, **matchers: str) -> str:
    """Return the count of each bucket in each step of a graph."""
    return total_of(f"increase({over(f'{metric}_bucket', RATE, **matchers)})", "le")


def mean(metric: str, *by: str, window: str = RATE, **matchers: str) -> str:
    """Return the mean of a histogram's observations; no value without observations."""
    parts = [
        total_of(f"increase({over(f'{metric}_{part}', window, **matchers)})", *by)
        for part in ("sum", "count")
    ]
    return f"{parts[0]} / ({parts[1]} > 0)"


def share(part: str, whole: str) -> str:
    """Divide; no value where the whole is 0."""
    return f"{part} / ({whole} > 0)"


def total_with_new_series(metric: str, *by: str) -> str:
    """Return the increase over the range of a counter whose series begin with their first event.

    There are too many pairs of models to create all of them at 0. A series younger than the range
    counts with its value, an older one with its increase.
    """
    now = pick(metric)
    return total_of(f"({now} unless {now} offset {RANGE}) or increase({over(metric, RANGE)})", *by)


def total_of(expression: str, *by: str) -> str:
    """Return the sum, by labels or in total."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def largest_of(expression: str, *by: str) -> str:
    """Return the largest value, by labels or in total."""
    return f"max by ({', '.join(by)}) ({expression})" if by else f"max({expression})"


def or_zero(expression: str) -> str:
    """Return 0 without series; use it only if a missing series means 0."""
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
