# SPDX-License-Identifier: Apache-2.0
"""Panels: each kind with the options that all of ours share.

`title`: what the panel shows. `says`: what it is made of, and one sentence that begins with "Good:"
and says what good looks like. `empty`: the text in place of missing data, which says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as values
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import Dataquery, PromQueryFormat

from dashboards.build import palette

DATASOURCE: Final = values.DataSourceRef(type_val="prometheus", uid="${datasource}")
NO_REQUESTS: Final = "no requests seen: needs clients that use the proxy or the shim"
NO_EXPORTER: Final = "no exporter scraped"
NO_MODEL: Final = "no model seen yet"
LEGEND: Final = 240  # pixels of a legend at the right: less than half of the narrowest such panel
LABELS_OF_ANY_LENGTH: Final = ("{{model}}", "{{instance}}")
# Events are rare: with narrower bars, several would show the same event.
EVENT_STEP: Final = "2m"

SECONDS: Final = "s"
BYTES: Final = "bytes"
SHARE: Final = "percentunit"
COUNT: Final = "short"
MOMENT: Final = "dateTimeFromNow"
PER_SECOND: Final = "reqps"
TOKENS_PER_SECOND: Final = "suffix: tokens/s"
BYTES_PER_SECOND: Final = "binBps"


Panel = Builder[model.Panel]
P = TypeVar(
    "P",
    barchart.Panel,
    bargauge.Panel,
    heatmap.Panel,
    stat.Panel,
    statetimeline.Panel,
    timeseries.Panel,
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One query; `legend` names its series."""

    expression: str
    legend: str = ""
    kind: str = "range"  # range, instant, table (instant), heatmap


@dataclass(frozen=True, slots=True)
class Place:
    """The width (of 24 columns) and height (in rows) of a panel."""

    width: int
    height: int = 8


def with_queries(
    panel: P, title: str, says: str, asks: Sequence[Ask], place: Place, *, unit: str, empty: str
) -> P:
    """Set what all panels have."""
    panel.title(title).description(says).span(place.width).height(place.height)
    panel.datasource(DATASOURCE).unit(unit)
    panel.no_value(empty)
    for letter, ask in zip("ABCDEFGHIJKLMNOP", asks, strict=False):
        panel.with_target(target(ask.expression, letter, kind=ask.kind, legend=ask.legend))
    return panel


class _Built(Builder[Dataquery]):
    """A query that is already built."""

    def __init__(self, query: Dataquery) -> None:
        self._query = query

    def build(self) -> Dataquery:
        """Return it."""
        return self._query


def target(expression: str, letter: str, *, kind: str = "table", legend: str = "") -> _Built:
    """Return a panel's query: over time only if the panel draws time."""
    query = prometheus.Dataquery().ref_id(letter).expr(expression).datasource(DATASOURCE)
    if kind in ("range", "heatmap"):
        query.range()
    else:
        query.instant()
    if kind in ("table", "heatmap"):
        query.format(PromQueryFormat(kind))
    if legend:
        query.legend_format(legend)
    built = query.build()
    built.instant, built.range_val = bool(built.instant), bool(built.range_val)
    return _Built(built)


def fixed(colour: str) -> build.FieldColor:
    """Return one colour for all series."""
    return build.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(colour)


def colour(name: str) -> model.DynamicConfigValue:
    """Return the colour of one series, as an override."""
    return model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": name})


def coloured(panel: P, colours: Mapping[str, str]) -> P:
    """Set the colours of series, by name."""
    for name, wanted in colours.items():
        panel.override_by_name(str(name), [colour(wanted)])
    return panel


def thresholds(first: str, *steps: tuple[float, str]) -> build.ThresholdsConfig:
    """Return colours from a value on."""
    found = [model.Threshold(None, first), *(model.Threshold(at, name) for at, name in steps)]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


def judged(*steps: tuple[float | None, str]) -> list[model.DynamicConfigValue]:
    """Return colours from a value on, as an override."""
    found = [{"value": at, "color": name} for at, name in steps]
    return [model.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": found})]


def neutral() -> list[model.DynamicConfigValue]:
    """Return a neutral colour, as an override."""
    return judged((None, palette.NEUTRAL))


def lines(  # noqa: PLR0913 - the options of a graph
    title: str,
    says: str,
    asks: Sequence[Ask],
    place: Place,
    *,
    unit: str,
    empty: str,
    colours: Mapping[str, str] | None = None,
    stacked: bool = False,
    stepped: bool = False,
    limit: float | None = None,
    logarithmic: bool = False,
) -> timeseries.Panel:
    """Draw series over time. `limit`: a dashed line; values above it are bad."""
    panel = with_queries(timeseries.Panel(), title, says, asks, place, unit=unit, empty=empty)
    _time(panel, legend_as_table=_has_room(asks, place))
    panel.line_width(1 if stacked else 2).fill_opacity(45 if stacked else 0)
    panel.show_points(values.VisibilityMode.NEVER)
    if stacked:
        panel.stacking(common.StackingConfig().mode(values.StackingMode.NORMAL))
    if stepped:
        panel.line_interpolation(values.LineInterpolation.STEP_AFTER)
    if logarithmic:
        scale = common.ScaleDistributionConfig().type(values.ScaleDistribution.LOG).log(10)
        panel.scale_distribution(scale)
    else:
        panel.min(0)
    if limit is not None:
        panel.thresholds(thresholds("transparent", (limit, palette.BAD)))
        style = common.GraphThresholdsStyleConfig()
        panel.thresholds_style(style.mode(values.GraphThresholdsStyleMode.DASHED))
    return coloured(panel, colours or {})


def bars(
    title: str,
    says: str,
    asks: Sequence[Ask],
    place: Place,
    *,
    empty: str,
    colours: Mapping[str, str] | None = None,
) -> timeseries.Panel:
    """Draw events over time: whole numbers, stacked."""
    panel = with_queries(timeseries.Panel(), title, says, asks, place, unit=COUNT, empty=empty)
    _time(panel, legend_as_table=_has_room(asks, place), totals=True)
    panel.draw_style(values.GraphDrawStyle.BARS).fill_opacity(80).line_width(0)
    panel.stacking(common.StackingConfig().mode(values.StackingMode.NORMAL))
    panel.min(0).decimals(0).interval(EVENT_STEP).axis_soft_max(3)
    return coloured(panel, colours or {})


def _has_room(asks: Sequence[Ask], place: Place) -> bool:
    """Return whether a table of the series fits beside the chart, at 1280 pixels too.

    Names of models and servers can be long: a legend below the chart wraps them, and Grafana keeps
    it to a third of the height.
    """
    long = any(label in ask.legend for ask in asks for label in LABELS_OF_ANY_LENGTH)
    return place.width >= 12 and not long  # noqa: PLR2004 - half of the width


def _time(panel: timeseries.Panel, *, legend_as_table: bool, totals: bool = False) -> None:
    legend = common.VizLegendOptions().show_legend(True).placement(values.LegendPlacement.BOTTOM)
    if legend_as_table:
        legend.display_mode(values.LegendDisplayMode.TABLE).placement(values.LegendPlacement.RIGHT)
        legend.width(LEGEND)
        legend.calcs(["sum"] if totals else ["lastNotNull", "max"])
        legend.sort_by("Total" if totals else "Last *").sort_desc(True)
    else:
        legend.display_mode(values.LegendDisplayMode.LIST).calcs([])
    panel.legend(legend)
    tooltip = common.VizTooltipOptions().mode(values.TooltipDisplayMode.MULTI)
    panel.tooltip(tooltip.sort(values.SortOrder.DESCENDING))
    panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.span_nulls(False)


def number(
    title: str,
    says: str,
    asks: Sequence[Ask],
    place: Place,
    *,
    unit: str,
    empty: str,
    steps: build.ThresholdsConfig | None = None,
    decimals: int | None = None,
    mappings: Sequence[model.ValueMapping] = (),
) -> stat.Panel:
    """Show one number for each query; without `steps` in a neutral colour."""
    panel = with_queries(stat.Panel(), title, says, asks, place, unit=unit, empty=empty)
    panel.graph_mode(values.BigValueGraphMode.NONE)
    panel.justify_mode(values.BigValueJustifyMode.AUTO)
    named = len(asks) > 1 or "{{" in asks[0].legend
    panel.text_mode(
        values.BigValueTextMode.VALUE_AND_NAME if named else values.BigValueTextMode.VALUE
    )
    panel.wide_layout(False).orientation(values.VizOrientation.AUTO)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    if steps is None:
        panel.color_mode(values.BigValueColorMode.NONE).color_scheme(fixed(palette.NEUTRAL))
    else:
        panel.color_mode(values.BigValueColorMode.VALUE).thresholds(steps)
        panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    if decimals is not None:
        panel.decimals(decimals)
    if mappings:
        panel.mappings(list(mappings))
    return panel


def ranking(
    title: str,
    says: str,
    asks: Sequence[Ask],
    place: Place,
    *,
    unit: str,
    empty: str,
    steps: build.ThresholdsConfig | None = None,
    most: float | None = None,
) -> bargauge.Panel:
    """Show horizontal bars in the order of the query, the longest first."""
    panel = with_queries(bargauge.Panel(), title, says, asks, place, unit=unit, empty=empty)
    panel.orientation(values.VizOrientation.HORIZONTAL).min(0)
    panel.display_mode(values.BarGaugeDisplayMode.BASIC).show_unfilled(False)
    panel.value_mode(values.BarGaugeValueMode.TEXT)
    panel.name_placement(values.BarGaugeNamePlacement.LEFT)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    if steps is None:
        panel.color_scheme(fixed(palette.COLD))
    else:
        panel.thresholds(steps)
        panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    if most is not None:
        panel.max(most)
    return panel
