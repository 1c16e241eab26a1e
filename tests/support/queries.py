# SPDX-License-Identifier: Apache-2.0
"""Every query that is shipped: taken out of dashboards, rules and pages, and filled in.

Grafana replaces `$variable`, `${variable}` and `$__macro` before it asks; so do we.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tests.support.yaml_files import load_yaml

Kind = Literal["range", "instant", "variable", "annotation", "record", "alert", "page"]
VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::\w+)?\}|([A-Za-z_]\w*))")
LABEL_VALUES: Final = re.compile(r"label_values\((?P<selector>.+), *(?P<label>\w+)\)")
LEGEND_LABEL: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
FENCE: Final = re.compile(r"^```promql\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Query:
    """One query. `where`: for people; `labels`: that its result must have, as panels show them."""

    where: str
    expression: str
    kind: Kind
    labels: frozenset[str] = frozenset()
    unit: str = ""


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels of a dashboard, those in rows too, without the rows."""
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from panel.get("panels", ())


def of_dashboard(file: Path) -> Iterator[Query]:
    """Yield the queries of panels, variables and annotations."""
    dashboard = json.loads(file.read_text(encoding="utf-8"))
    for panel in panels(dashboard):
        for target in panel["targets"]:
            legend = LEGEND_LABEL.findall(target.get("legendFormat", ""))
            yield Query(
                f"{dashboard['title']}: {panel['title']} {target['refId']}",
                target["expr"],
                "range" if target.get("range") else "instant",
                frozenset({*legend, *_row_labels(panel)}),
                panel["fieldConfig"]["defaults"].get("unit", ""),
            )
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            asked = LABEL_VALUES.fullmatch(variable["query"]["query"])
            assert asked is not None, variable
            yield Query(
                f"{dashboard['title']}: variable {variable['name']}",
                asked["selector"],
                "variable",
                frozenset({asked["label"]}),
            )
    for mark in dashboard["annotations"]["list"]:
        labels = {*LEGEND_LABEL.findall(mark["titleFormat"] + mark["textFormat"])}
        where = f"{dashboard['title']}: annotation {mark['name']}"
        yield Query(where, mark["expr"], "annotation", frozenset({*labels, mark["tagKeys"]}))


def _row_labels(panel: Mapping[str, Any]) -> set[str]:
    """Return the labels that become columns of a table; `version` is one for each of two things."""
    names: set[str] = set()
    for step in panel.get("transformations", ()):
        if step["id"] == "organize":
            names |= set(step["options"]["renameByName"]) | set(step["options"]["indexByName"])
    return {name for name in names if not name.startswith("Value")}


def of_rules(file: Path) -> Iterator[Query]:
    """Yield the queries of recording rules and alerts."""
    for group in load_yaml(file)["groups"]:
        for rule in group["rules"]:
            kind: Kind = "record" if "record" in rule else "alert"
            yield Query(f"{file.name}: {rule[kind]}", rule["expr"], kind)


def of_page(file: Path) -> Iterator[Query]:
    """Yield the queries of a page's blocks of PromQL: separated by an empty line or a comment."""
    for block in FENCE.findall(file.read_text(encoding="utf-8")):
        for part in re.split(r"\n\s*\n|^#.*\n", block, flags=re.MULTILINE):
            if part.strip():
                yield Query(f"{file.name}: {part.strip()[:60]}", part.strip(), "page")


def filled(expression: str, values: Mapping[str, str]) -> str:
    """Put values for variables; one that has none fails."""
    return VARIABLE.sub(lambda found: values[found[1] or found[2]], expression)
