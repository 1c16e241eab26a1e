# SPDX-License-Identifier: Apache-2.0
"""Memory versus speed, its second row: what each keep-alive would have cost."""

from typing import Final

from grafana_foundation_sdk.models import common as values
from grafana_foundation_sdk.models import dashboard as model

from dashboards.build import palette
from dashboards.build.charts import columns, heat
from dashboards.build.frame import address
from dashboards.build.panels import (
    COUNT,
    NO_REQUESTS,
    SECONDS,
    Ask,
    Panel,
    Place,
)
from dashboards.build.promql import (
    EACH,
    RANGE,
    advised,
    buckets,
    in_effect,
    largest_of,
    over,
    pick,
    share,
    total,
    total_of,
)
from dashboards.build.tables import TOO_FEW, Column, rows
from ollama_exporter.advice.idle_histogram import BOUNDS

GAP: Final = "ollama_model_idle_gap_seconds"
IDLE: Final = "ollama_model_idle_gap_truncated_seconds_total"
NEVER: Final = "1000000000000000"  # means never, and sorts after every bound
UNITS: Final = ((86400, "day"), (3600, "h"), (60, "min"), (1, "s"))
GIB_HOUR: Final = 2**30 * 3600


def cold_if() -> Panel:
    """Build the bars of cold starts."""
    count = total_of(_gained(f"{GAP}_count"))
    warm = total_of(_gained(f"{GAP}_bucket", le="!=+Inf"), "le")
    return _by_keep_alive(
        "Cold starts by keep-alive",
        "How many cold starts each keep-alive would have cost in this time range: one for each "
        "longer idle gap, without evictions. Good: your keep-alive is where the bars stop falling.",
        _row(count, "0"),
        f"scalar({count}) - {warm}",
        _row(f"0 * {count}", NEVER),
        unit=COUNT,
        name="cold starts",
        colour=palette.COLD,
    )


def memory_if() -> Panel:
    """Build the bars of idle memory."""
    held = largest_of(f"max_over_time({over('ollama_model_memory_bytes', RANGE)})", *EACH)
    on = "* on (job, instance, model) group_left ()"
    whole = total_of(f"{_gained(f'{GAP}_sum')} {on} {held}")
    cut = total_of(f"{_gained(IDLE)} {on} {held}", "le")
    return _by_keep_alive(
        "Idle memory by keep-alive",
        "GiB-hours of idle memory that each keep-alive would have cost in this time range. Good: "
        "your keep-alive is where the bars do not rise steeply yet.",
        _row(f"0 * {whole}", "0"),
        f"{cut} / {GIB_HOUR}",
        _row(f"{whole} / {GIB_HOUR}", NEVER),
        unit=COUNT,
        name="GiB-hours",
        colour=palette.WARM,
    )


def _by_keep_alive(
    title: str,
    says: str,
    *rows_of: str,
    unit: str,
    name: str,
    colour: str,
) -> Panel:
    panel = columns(
        title,
        says,
        [Ask(" or ".join(rows_of), name, "table")],
        Place(12, 9),
        x="keep-alive",
        unit=unit,
        colours={name: colour},
        empty=NO_REQUESTS,
    )
    # Sorted as numbers, labelled as text: not every Grafana puts numbers below bars.
    panel.with_transformation(_converted("number"))
    panel.with_transformation(
        model.DataTransformerConfig("sortBy", options={"fields": {}, "sort": [{"field": "le"}]})
    )
    panel.with_transformation(_converted("string"))
    panel.with_transformation(
        model.DataTransformerConfig(
            "organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {"le": 0, "Value": 1},
                "renameByName": {"le": "keep-alive", "Value": name},
            },
        )
    )
    named = {"0": "0", **{str(bound): _spelled(bound) for bound in BOUNDS}, NEVER: "never"}
    texts = {key: {"text": text, "index": n} for n, (key, text) in enumerate(named.items())}
    panel.override_by_name(
        "keep-alive",
        [model.DynamicConfigValue("mappings", [{"type": "value", "options": texts}])],
    )
    return panel.show_value(values.VisibilityMode.AUTO).x_tick_label_spacing(0)


def _converted(kind: str) -> model.DataTransformerConfig:
    conversions = [{"targetField": "le", "destinationType": kind}]
    return model.DataTransformerConfig(
        "convertFieldType", options={"conversions": conversions, "fields": {}}
    )


def _spelled(seconds: float) -> str:
    """Return a bound as people write it: 90 s, 7.5 min, 1 day."""
    unit, name = next((size, name) for size, name in UNITS if seconds >= size)
    return f"{seconds / unit:g} {name}"


def _row(expression: str, le: str) -> str:
    """Return a single number as the value of one keep-alive."""
    return f'label_replace({expression}, "le", "{le}", "", "")'


def _gained(metric: str, **matchers: str) -> str:
    return f"increase({over(metric, RANGE, **matchers)})"


def advice() -> Panel:
    """Build the table of keep-alives."""
    gaps = total(f"{GAP}_count", *EACH)
    columns_ = [
        Column("Idle gaps", f"round({gaps})", decimals=0, width=70),
        Column(
            "Median idle gap",
            f"histogram_quantile(0.5, {total(f'{GAP}_bucket', 'le', *EACH)})",
            SECONDS,
            decimals=0,
            width=110,
        ),
        Column(
            "In effect",
            largest_of(in_effect(), *EACH),
            SECONDS,
            decimals=0,
            never=True,
            width=80,
        ),
        Column(
            "Advised",
            largest_of(advised(), *EACH),
            SECONDS,
            decimals=0,
            never=True,
            empty=TOO_FEW,
            width=80,
        ),
        Column(
            "Idle gaps used",
            largest_of(pick("ollama_model_advice_samples"), *EACH),
            decimals=0,
            steps=((None, palette.GREY), (20, palette.NEUTRAL)),
            width=75,
        ),
        Column(
            "Cold starts",
            f"round({total('ollama_cold_starts_total', *EACH)})",
            decimals=0,
            width=90,
        ),
        Column(
            "Load time",
            share(
                total("ollama_model_load_seconds_sum", *EACH),
                total("ollama_model_load_seconds_count", *EACH),
            ),
            SECONDS,
            decimals=1,
            width=100,
        ),
    ]
    return rows(
        "Current and advised keep-alive",
        "The idle gaps of each model, the current keep-alive, and the one that would cost least "
        "(not yet: fewer than 20 idle gaps). Good: both keep-alives are similar.",
        {"instance": "Server", "model": "Model"},
        columns_,
        Place(14, 8),
        links={"Model": address("ollama-model", instance="Server", model="Model")},
        sort="Cold starts",
        empty=NO_REQUESTS,
    )


def gaps() -> Panel:
    """Build the heat map of pauses."""
    return heat(
        "Idle gaps between requests",
        "How long models were idle before the next request; darker means more often. Good: dark "
        "only below your keep-alive. What is above it becomes cold starts.",
        Ask(buckets(GAP), "{{le}}", "heatmap"),
        Place(10),
        unit=SECONDS,
        scheme="Purples",
        empty=NO_REQUESTS,
    )
