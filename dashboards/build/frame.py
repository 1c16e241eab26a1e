# SPDX-License-Identifier: Apache-2.0
"""What all dashboards share: variables, links, and annotations for unloads."""

from collections.abc import Mapping, Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from dashboards.build import palette
from dashboards.build.panels import DATASOURCE, target
from dashboards.build.promql import UNEXPECTED, largest_of, pick
from ollama_exporter.cli.bundle_options import PLACEHOLDER
from ollama_exporter.residency.events import Reason

TAG: Final = "ollama"
# uid -> title, in the order of the links.
DASHBOARDS: Final = {
    "ollama-overview": "Ollama / Overview",
    "ollama-model": "Ollama / Model",
    "ollama-slow": "Ollama / Why was it slow",
    "ollama-memory": "Ollama / Memory versus speed",
    "ollama-clients": "Ollama / Who uses it",
}
EXPECTED: Final = f"{Reason.EXPIRED}|{Reason.STOPPED}"
CHANGED: Final = f"{Reason.OPTIONS_CHANGED}|{Reason.REPLACED}|{Reason.SERVER_RESTARTED}"
# Name, reasons and colour of the annotations.
MARKS: Final = (
    ("Unexpected unloads", UNEXPECTED, palette.REASONS[Reason.EVICTED]),
    ("Reloads and restarts", CHANGED, palette.REASONS[Reason.SERVER_RESTARTED]),
    ("Expired and stopped", EXPECTED, palette.GREY),
)
Section = tuple[str, Sequence[Builder[model.Panel]]]


def address(uid: str, **fields: str) -> str:
    """Return the address of another dashboard for the same time and a row's fields."""
    narrowed = "".join(
        f"&var-{name}=${{__data.fields.{heading}}}" for name, heading in fields.items()
    )
    kept = "${datasource:queryparam}&${job:queryparam}"
    for name in ("instance", "model"):
        if name not in fields:
            kept += f"&${{{name}:queryparam}}"
    return f"/d/{uid}?{kept}{narrowed}&${{__url_time_range}}"


def dashboard(
    uid: str,
    question: str,
    sections: Sequence[Section],
    *,
    since: str = "now-6h",
    marked: Sequence[str],
    runbooks: Mapping[str, str],
    marks: Sequence[str] = ("Unexpected unloads",),
    folded: Sequence[str] = (),
) -> model.Dashboard:
    """Return a dashboard. `question`: what it answers. The first section has no title.

    `marked`: titles of the graphs with annotations for unloads; on all graphs they would hide too
    much. `marks`: the annotations that are on at first. `runbooks`: the runbook for the panel of
    that title. `folded`: sections that are collapsed at first.
    """
    made = build.Dashboard(DASHBOARDS[uid]).uid(uid).description(question).tags([TAG])
    made.readonly().time(since, "now").refresh("1m").timezone("browser")
    made.tooltip(model.DashboardCursorSync.CROSSHAIR)
    for variable in _variables():
        made.with_variable(variable)
    for link in _links(uid):
        made.link(link)
    for name, reasons, colour in MARKS:
        made.annotation(_mark(name, reasons, colour, enabled=name in marks))
    for title, panels in sections:
        row = build.Row(title)
        if title in folded:
            for panel in panels:
                row.with_panel(panel)
            made.with_row(row)
            continue
        if title:
            made.with_row(row)
        for panel in panels:
            made.with_panel(panel)
    return _numbered(made.build(), marked, runbooks)


def _numbered(
    made: model.Dashboard, marked: Sequence[str], runbooks: Mapping[str, str]
) -> model.Dashboard:
    """Give the panels ids, which annotations and links to a panel need."""
    ids: dict[str, int] = {}
    every: list[model.Panel | model.RowPanel] = []
    for panel in made.panels or ():
        every += [panel, *(panel.panels if isinstance(panel, model.RowPanel) else ())]
    for number, panel in enumerate(every, start=1):
        title = panel.title or ""
        panel.id_val = ids[title] = number
        if title in runbooks and isinstance(panel, model.Panel):
            panel.links = [_runbook(runbooks[title])]
    unknown = runbooks.keys() - ids
    if unknown:
        raise ValueError(f"no panel is named {', '.join(sorted(unknown))}")
    for mark in made.annotations.list_val or ():
        mark.filter_val = model.AnnotationPanelFilter(
            exclude=False, ids=[ids[title] for title in marked]
        )
    return made


def _runbook(name: str) -> model.DashboardLink:
    link = build.DashboardLink(f"Runbook {name}").type(model.DashboardLinkType.LINK)
    return link.url(f"{PLACEHOLDER}{name}.md").target_blank(True).build()


def _variables() -> list[Builder[model.VariableModel]]:
    default = model.VariableOption(text="default", value="default")
    source = build.DatasourceVariable("datasource").label("Data source").type("prometheus")
    return [
        source.current(default),
        _variable("job", "Job", "label_values(ollama_up, job)"),
        _variable("instance", "Server", 'label_values(ollama_up{job=~"$job"}, instance)'),
        _variable(
            "model",
            "Model",
            'label_values(ollama_model_loads_total{job=~"$job", instance=~"$instance"}, model)',
        ),
    ]


def _variable(name: str, label: str, query: str) -> build.QueryVariable:
    made = build.QueryVariable(name).label(label).datasource(DATASOURCE)
    # qryType 1: label values. Grafana reads the query from the text and keeps both in step.
    made.query(
        {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"}
    )
    made.definition(query).multi(True).include_all(True).all_value(".+")
    made.current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    made.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return made.sort(model.VariableSort.ALPHABETICAL_ASC)


def _links(uid: str) -> list[build.DashboardLink]:
    others = [
        build.DashboardLink(title.removeprefix("Ollama / "))
        .type(model.DashboardLinkType.LINK)
        .url(f"/d/{other}")
        .icon("dashboard")
        .keep_time(True)
        .include_vars(True)
        for other, title in DASHBOARDS.items()
        if other != uid
    ]
    runbooks = build.DashboardLink("Runbooks").type(model.DashboardLinkType.LINK).url(PLACEHOLDER)
    return [*others, runbooks.icon("doc").target_blank(True)]


def _mark(name: str, reasons: str, colour: str, *, enabled: bool) -> build.AnnotationQuery:
    """Annotate unloads at the time that the exporter gives, not at the time of the scrape."""
    moments = pick("ollama_model_last_unload_timestamp_seconds", reason=f"=~{reasons}")
    expression = f"{largest_of(moments, 'instance', 'model', 'reason')} * 1000"
    # Grafana 11 reads `target`, older versions the fields beside it.
    return (
        build.AnnotationQuery()
        .target(target(expression, "Anno", kind="range"))
        .name(name)
        .datasource(DATASOURCE)
        .enable(enabled)
        .icon_color(colour)
        .expr(expression)
        .use_value_for_time(True)
        .step("60s")
        .title_format("{{model}}: {{reason}}")
        .text_format("left memory on {{instance}}")
        .tag_keys("reason")
    )
