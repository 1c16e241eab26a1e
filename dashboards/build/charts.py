# SPDX-License-Identifier: Apache-2.0
"""Panels of the less common kinds: state timeline, heatmap, bars over a label."""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    heatmap,
    statetimeline,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as values
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat_values

from dashboards.build.panels import (
    COUNT,
    EVENT_STEP,
    NO_MODEL,
    Ask,
    Place,
    coloured,
    with_queries,
)


def states(
    title: str, says: str, asks: Sequence[Ask], place: Place, *, of: Mapping[str, str]
) -> statetimeline.Panel:
    """Draw states over time; `of`: names and colours, value 0 first."""
    panel = with_queries(
        statetimeline.Panel(), title, says, asks, place, unit="none", empty=NO_MODEL
    )
    mapping = {
        str(value): model.ValueMappingResult(text=name, color=wanted, index=value)
        for value, (name, wanted) in enumerate(of.items())
    }
    panel.mappings([model.ValueMap(options=mapping)])
    panel.show_value(values.VisibilityMode.NEVER).row_height(0.8).fill_opacity(100).line_width(0)
    panel.merge_values(True).align_value(values.TimelineValueAlignment.LEFT).per_page(20)
    legend = common.VizLegendOptions().show_legend(True).placement(values.LegendPlacement.BOTTOM)
    panel.legend(legend.display_mode(values.LegendDisplayMode.LIST).calcs([]))
    panel.tooltip(common.VizTooltipOptions().mode(values.TooltipDisplayMode.SINGLE))
    return panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))


def heat(
    title: str, says: str, ask: Ask, place: Place, *, unit: str, scheme: str, empty: str
) -> heatmap.Panel:
    """Draw a histogram over time: darker means more."""
    panel = with_queries(heatmap.Panel(), title, says, [ask], place, unit=COUNT, empty=empty)
    panel.calculate(False).cell_gap(1).interval(EVENT_STEP)
    colours = heatmap.HeatmapColorOptions().mode(heat_values.HeatmapColorMode.SCHEME)
    colours.scheme(scheme).steps(64).scale(heat_values.HeatmapColorScale.EXPONENTIAL)
    panel.color(colours.exponent(0.5).fill("dark-orange").reverse(False))
    panel.y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(values.AxisPlacement.LEFT))
    panel.rows_frame(heatmap.RowsHeatmapOptions().layout(values.HeatmapCellLayout.AUTO))
    panel.cell_values(heatmap.CellValues().unit(COUNT))
    panel.filter_values(heatmap.FilterValueRange().le(1e-9))
    tooltip = heatmap.HeatmapTooltip().mode(values.TooltipDisplayMode.SINGLE).y_histogram(True)
    return panel.tooltip(tooltip.show_color_scale(True)).show_legend()


def columns(
    title: str,
    says: str,
    asks: Sequence[Ask],
    place: Place,
    *,
    x: str,
    unit: str,
    empty: str,
    stacked: bool = False,
    horizontal: bool = False,
    colours: Mapping[str, str] | None = None,
) -> barchart.Panel:
    """Draw bars over the values of a label; `x`: the field that names them."""
    panel = with_queries(barchart.Panel(), title, says, asks, place, unit=unit, empty=empty)
    panel.x_field(x).show_value(values.VisibilityMode.NEVER).fill_opacity(85).line_width(0)
    panel.orientation(
        values.VizOrientation.HORIZONTAL if horizontal else values.VizOrientation.VERTICAL
    )
    panel.stacking(values.StackingMode.NORMAL if stacked else values.StackingMode.NONE)
    panel.bar_width(0.85).group_width(0.8).min(0)
    legend = common.VizLegendOptions().show_legend(True).placement(values.LegendPlacement.BOTTOM)
    panel.legend(legend.display_mode(values.LegendDisplayMode.LIST).calcs([]))
    tooltip = common.VizTooltipOptions().mode(values.TooltipDisplayMode.MULTI)
    panel.tooltip(tooltip.sort(values.SortOrder.NONE))
    panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC))
    return coloured(panel, colours or {})
