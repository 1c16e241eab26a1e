# SPDX-License-Identifier: Apache-2.0
"""Tables: labels name a row, and each further column has its own query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import common as values
from grafana_foundation_sdk.models import dashboard as model

from dashboards.build import palette
from dashboards.build.panels import DATASOURCE, Place, target

WIDE: Final = {"Server": 110, "Model": 165, "Evicted": 130}
NARROWEST: Final = 60  # pixels of a column
TOO_FEW: Final = "not yet"  # advice that would rest on too few pauses
LETTERS: Final = "ABCDEFGHIJKLMNOP"


@dataclass(frozen=True, slots=True)
class Column:
    """One query and how its value is shown; `steps`: text colours from a value on."""

    name: str
    expression: str
    unit: str = "short"
    decimals: int | None = None
    steps: tuple[tuple[float | None, str], ...] = ()
    texts: Mapping[str, tuple[str, str]] | None = None  # value -> text and colour
    never: bool = False  # infinite values read "never"
    past: str = ""  # what negative values read
    bar: bool = False  # drawn as a bar from 0 to 1
    width: int | None = None
    empty: str = "-"  # what a missing value reads


def rows(
    title: str,
    says: str,
    keys: Mapping[str, str],
    columns: Sequence[Column],
    place: Place,
    *,
    hidden: Sequence[str] = ("job",),
    links: Mapping[str, str] | None = None,
    sort: str | None = None,
    empty: str,
) -> table.Panel:
    """Show a table.

    `keys`: labels that become columns and their headings, in order; `hidden`: further labels of the
    queries; `links`: heading -> address; `sort`: heading, largest first.
    """
    panel = table.Panel().title(title).description(says).span(place.width).height(place.height)
    panel.datasource(DATASOURCE).unit("short").show_header(True)
    panel.cell_height(values.TableCellHeight.SM)
    panel.no_value(empty)
    for letter, column in zip(LETTERS, columns, strict=False):
        panel.with_target(target(column.expression, letter))
    many = len(columns) > 1
    if many:
        panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    found = {
        f"Value #{letter}" if many else "Value": column.name
        for letter, column in zip(LETTERS, columns, strict=False)
    }
    order = [*keys, *found]
    panel.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True, **dict.fromkeys(hidden, True)},
                "indexByName": {name: place for place, name in enumerate(order)},
                "renameByName": {**keys, **found},
            },
        )
    )
    for column in columns:
        panel.override_by_name(column.name, _properties(column))
    for heading, address in (links or {}).items():
        link = {"title": "Look at ${__value.text}", "url": address}
        panel.override_by_name(heading, [model.DynamicConfigValue("links", [link])])
    for heading in keys.values():
        least = WIDE.get(heading)
        if least is not None:
            panel.override_by_name(heading, [model.DynamicConfigValue("custom.minWidth", least)])
    if sort is not None:
        order_by = {"fields": {}, "sort": [{"field": sort, "desc": True}]}
        panel.with_transformation(model.DataTransformerConfig(id_val="sortBy", options=order_by))
    panel.filterable(False).min_width(NARROWEST)
    return panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))


def _properties(column: Column) -> list[model.DynamicConfigValue]:
    found: list[tuple[str, Any]] = [("unit", column.unit), ("noValue", column.empty)]
    if column.decimals is not None:
        found.append(("decimals", column.decimals))
    if column.width is not None:
        found.append(("custom.width", column.width))
    if column.steps:
        steps = [{"value": at, "color": name} for at, name in column.steps]
        found.append(("thresholds", {"mode": "absolute", "steps": steps}))
    if column.bar:
        found += [("min", 0), ("max", 1)]
        found.append(("custom.cellOptions", {"type": "gauge", "mode": "basic"}))
    elif column.steps or column.texts:
        found.append(("custom.cellOptions", {"type": "color-text"}))
    mappings: list[dict[str, Any]] = []
    if column.never:
        result = {"text": "never", "color": palette.KEEP_ALIVES["never"], "index": 0}
        mappings.append({"type": "range", "options": {"from": 1e15, "to": None, "result": result}})
    if column.past:
        result = {"text": column.past, "color": palette.NEUTRAL, "index": 0}
        mappings.append({"type": "range", "options": {"from": None, "to": 0, "result": result}})
    if column.texts:
        options = {
            value: {"text": text, "color": name, "index": at}
            for at, (value, (text, name)) in enumerate(column.texts.items())
        }
        mappings.append({"type": "value", "options": options})
    if mappings:
        found.append(("mappings", mappings))
    return [model.DynamicConfigValue(name, value) for name, value in found]
