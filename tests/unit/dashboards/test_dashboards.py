# SPDX-License-Identifier: Apache-2.0
"""The rules that dashboards of the ecosystem keep, and ours."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from click.testing import CliRunner

from ollama_exporter.cli.main import cli
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.promql import COUNTED, Read, reads
from tests.support.queries import VARIABLE, Query, filled, of_dashboard, panels

FOLDER: Final = ROOT / "dashboards" / "grafana"
FILES: Final = sorted(FOLDER.glob("*.json"))
SCHEMAS: Final = ROOT / "dashboards" / "schemas"
UNITS: Final = frozenset(json.loads((SCHEMAS / "units.json").read_text(encoding="utf-8")))
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
OWN_UNIT: Final = "suffix:"  # Grafana writes what follows behind the number
COUNTER: Final = re.compile(r"_(total|bucket|count|sum)$")
CHOSEN: Final = ("job", "instance")
RATE, RANGE = 240, 21600  # seconds
WINDOWS: Final = {"__rate_interval": f"{RATE}s", "__range": f"{RANGE}s"}
TARGET_KEYS: Final = {
    *("datasource", "expr", "refId", "range", "instant", "format", "legendFormat"),
}
GOOD: Final = re.compile(r"[A-Za-z0-9].*\. Good: [^ ].*\.", re.DOTALL)  # what it shows, then that
LONGEST: Final = 340  # characters of a description
TERMS: Final = {"keep_alive in requests"}  # begins with a name of the API
TOKENS: Final = re.compile(r"rate\(\w+_tokens_total")
TOKENS_BY_TOKENS: Final = re.compile(r"_tokens_total.* / .*_tokens_total", re.DOTALL)  # a share
CLAMPED: Final = re.compile(r"clamp_min\([^()]*(- )?time\(\)( -)?$")
COMPARED: Final = re.compile(r"time\(\) - \w+\{[^}]*\}\) >")  # chooses series, is not shown
GRID_COLUMN: Final = 51  # pixels: a screen 1280 wide less the margins of the grid, by 24
# What a unit's number must come from: a part of the query's text.
MADE_OF: Final = {
    "s": re.compile(r"_seconds|time\(\)"),
    "bytes": re.compile(r"_bytes"),
    "binBps": re.compile(r"rate\(\w+_bytes_total"),
    "percentunit": re.compile(r" / |_ratio\b"),
    "dateTimeFromNow": re.compile(r"1000 \* .*_timestamp_seconds|1000 \* .*_start_time_seconds"),
    "reqps": re.compile(r"rate\("),
    "suffix: tokens/s": re.compile(r"_tokens_total"),
    "short": re.compile(r""),
    "none": re.compile(r"_model_loaded"),
}


def read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8")))


def name(file: Path) -> str:
    return file.stem


every_dashboard = pytest.mark.parametrize("file", FILES, ids=name)


def read_by(query: Query) -> list[Read]:
    """Return what a query reads: its windows as Grafana would fill them in, its variables not."""
    kept = {each: f"${each}" for each in ("job", "instance", "model")}
    found = reads(filled(query.expression, WINDOWS | kept))
    assert found, query.where
    return found


def test_the_files_are_as_the_builders_make_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dashboards.build", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    fresh = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    kept = {file.name: file.read_text(encoding="utf-8") for file in FILES}
    assert sorted(kept) == sorted(fresh)
    assert [name for name in kept if kept[name] != fresh[name]] == [], "make dashboards"


@every_dashboard
def test_every_query_is_narrowed_to_what_is_chosen(file: Path) -> None:
    wrong = []
    for query in of_dashboard(file):
        # the variable of a variable does not narrow itself
        chosen = [x for x in CHOSEN if query.kind != "variable" or f"${x}" in query.expression]
        for one in read_by(query):
            matchers = {label: (operator, value) for label, operator, value in one.matchers}
            wrong += [
                f"{query.where}: {one.name} {label} {matchers.get(label)}"
                for label in chosen
                if matchers.get(label) != ("Re", f"${label}")
            ]
    assert wrong == []


@every_dashboard
def test_counters_are_rated_over_the_window_that_fits_the_panel(file: Path) -> None:
    wrong = []
    for query in of_dashboard(file):
        wanted = RATE if query.kind == "range" else RANGE
        born = " offset " in query.expression  # counters that are born with their first event
        for one in read_by(query):
            rated = one.function in COUNTED
            if COUNTER.search(one.name) and query.kind != "variable" and not (rated or born):
                wrong.append(f"{query.where}: {one.name} is not rated")
            if rated and one.window != wanted:
                wrong.append(f"{query.where}: {one.name} over {one.window}, not {wanted}")
    assert wrong == []


@every_dashboard
def test_every_panel_says_in_one_sentence_what_good_looks_like(file: Path) -> None:
    wrong = []
    for panel in panels(read(file)):
        title, says = panel.get("title", ""), panel.get("description", "")
        if not title or not panel["targets"]:
            wrong.append(f"{title}: title, a query")
        elif not GOOD.fullmatch(says) or says.count("Good") != 1:
            wrong.append(f"{title}: what it shows, then once 'Good: ...': {says}")
        elif len(says) > LONGEST:
            wrong.append(f"{title}: {len(says)} characters, which nobody reads on hover")
    assert wrong == []


@every_dashboard
def test_titles_are_plain_and_begin_with_a_capital(file: Path) -> None:
    dashboard = read(file)
    every = [*panels(dashboard), *(each for each in dashboard["panels"] if each["type"] == "row")]
    titles = [panel["title"] for panel in every if panel["title"] not in TERMS]
    assert [title for title in titles if not title[0].isupper()] == []
    # What is meant has a name: nobody searches for "it", "what" or "what lies where".
    assert [title for title in titles if re.search(r"\b([Ii]ts?|lies|stays)\b", title)] == []


@every_dashboard
def test_what_can_be_empty_says_why(file: Path) -> None:
    texts = {
        p["title"]: p["fieldConfig"]["defaults"].get("noValue", "") for p in panels(read(file))
    }
    assert {title: text for title, text in texts.items() if len(text.split()) < 2} == {}


@every_dashboard
def test_tokens_over_time_are_written_as_tokens_a_second(file: Path) -> None:
    wrong = []
    for panel in panels(read(file)):
        for unit, expression in units_of(panel):
            speed = TOKENS.search(expression) and not TOKENS_BY_TOKENS.search(expression)
            if bool(speed) != (unit == "suffix: tokens/s"):
                wrong.append(f"{panel['title']}: {unit} of {expression}")
    assert wrong == []


@every_dashboard
def test_no_time_is_negative(file: Path) -> None:
    """A deadline is past while a request runs, and two clocks differ by a little."""
    wrong = []
    for panel in panels(read(file)):
        past = past_texts(panel)
        for column, target in zip(columns_of(panel), panel["targets"], strict=True):
            for found in re.finditer(r"- time\(\)|(?<!\w)time\(\) -", target["expr"]):
                clamped = CLAMPED.search(target["expr"][: found.end()])
                compared = COMPARED.match(target["expr"][found.start() :])
                if not (clamped or compared or column in past):
                    wrong.append(f"{panel['title']}: {target['expr']}")
    assert wrong == []


@every_dashboard
def test_what_is_next_to_nothing_reads_0(file: Path) -> None:
    """Seconds of waiting per second are a mean number: 31.5 billionths of a request are none."""
    wrong = [
        f"{panel['title']}: {expression}"
        for panel in panels(read(file))
        for unit, expression in units_of(panel)
        if re.search(r"rate\(\w+_seconds(_sum|_total)?\{", expression)
        and unit in ("s", "short")
        and not expression.startswith("round(")
    ]
    assert wrong == []


@every_dashboard
def test_legends_leave_the_chart_most_of_a_narrow_screen(file: Path) -> None:
    wrong = []
    for panel in panels(read(file)):
        legend = panel["options"].get("legend", {})
        if legend.get("placement") != "right":
            continue
        long = [target["legendFormat"] for target in panel["targets"]]
        if any("{{model}}" in each or "{{instance}}" in each for each in long):
            wrong.append(f"{panel['title']}: {long} are of any length")
        if not 0 < legend.get("width", 0) < panel["gridPos"]["w"] * GRID_COLUMN / 2:
            wrong.append(f"{panel['title']}: {legend}")
    assert wrong == []


@every_dashboard
def test_advice_is_shown_only_where_it_rests_on_enough_pauses(file: Path) -> None:
    asked = [q for q in of_dashboard(file) if "_advised_keep_alive_seconds" in q.expression]
    enough = re.compile(r"_advised_keep_alive_seconds\{[^}]*\} and on \([^)]*\) \S+\{[^}]*\} >= 20")
    assert [q.where for q in asked if not enough.search(q.expression)] == []
    assert bool(asked) == (file.stem not in {"ollama-clients", "ollama-slow"})


def columns_of(panel: dict[str, Any]) -> list[str]:
    """Return the column that each query of a panel fills, "" where there is none."""
    names: dict[str, str] = {}
    for step in panel.get("transformations", ()):
        if step["id"] == "organize":
            names = step["options"]["renameByName"]
    single = names.get("Value", "")
    return [names.get(f"Value #{target['refId']}", single) for target in panel["targets"]]


def past_texts(panel: dict[str, Any]) -> set[str]:
    """Return the columns that have a text for what is below 0."""
    return {
        override["matcher"]["options"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "mappings"
        for mapping in each["value"]
        if mapping["type"] == "range" and mapping["options"]["from"] is None
    }


def units_of(panel: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the unit of each query of a panel, and the query."""
    defaults = panel["fieldConfig"]["defaults"].get("unit", "")
    if panel["type"] == "heatmap":
        defaults = panel["options"]["yAxis"]["unit"]
    own = {
        override["matcher"]["options"]: each["value"]
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "unit"
    }
    for column, target in zip(columns_of(panel), panel["targets"], strict=True):
        yield own.get(column, defaults), target["expr"]


@every_dashboard
def test_every_unit_is_grafanas_and_fits_the_metric(file: Path) -> None:
    wrong = []
    for panel in panels(read(file)):
        for unit, expression in units_of(panel):
            if unit not in UNITS and not unit.startswith(OWN_UNIT):
                wrong.append(f"{panel['title']}: Grafana knows no {unit!r}")
            elif not MADE_OF[unit].search(expression):
                wrong.append(f"{panel['title']}: {unit} of {expression}")
    assert wrong == []


@every_dashboard
def test_the_data_source_is_chosen_and_never_named(file: Path) -> None:
    dashboard = read(file)
    used = [panel["datasource"] for panel in panels(dashboard)]
    used += [target["datasource"] for panel in panels(dashboard) for target in panel["targets"]]
    used += [mark["datasource"] for mark in dashboard["annotations"]["list"]]
    variables = dashboard["templating"]["list"]
    used += [each["datasource"] for each in variables if each["type"] == "query"]
    assert [each for each in used if each != SOURCE] == []
    assert "__inputs" not in dashboard
    assert (variables[0]["type"], variables[0]["query"]) == ("datasource", "prometheus")
    assert [each["name"] for each in variables] == ["datasource", "job", "instance", "model"]
    for each in variables[1:]:
        assert (each["multi"], each["includeAll"], each["allValue"]) == (True, True, ".+")
        assert each["refresh"] == 2  # when the time range changes


@every_dashboard
def test_it_can_be_provisioned_and_linked(file: Path) -> None:
    dashboard = read(file)
    assert dashboard["uid"] == file.stem
    assert not dashboard["editable"]
    assert dashboard.get("id") is None
    assert dashboard["tags"] == ["ollama"]
    assert 39 <= dashboard["schemaVersion"] <= 42
    every = [*panels(dashboard), *(each for each in dashboard["panels"] if each["type"] == "row")]
    ids = [panel["id"] for panel in every]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in every]
    assert len(set(titles)) == len(titles)
    uids = {each.stem for each in FILES}
    text = file.read_text(encoding="utf-8")
    assert set(re.findall(r"/d/([\w-]+)", text)) <= uids
    others = {link["url"].removeprefix("/d/") for link in dashboard["links"] if link["keepTime"]}
    assert others == uids - {file.stem}
    assert all(link["includeVars"] for link in dashboard["links"] if link["keepTime"])


@every_dashboard
def test_no_panel_lies_on_another_or_beside_the_grid(file: Path) -> None:
    dashboard = read(file)
    every = [*panels(dashboard), *(each for each in dashboard["panels"] if each["type"] == "row")]
    places = [(panel["title"], panel["gridPos"]) for panel in every]
    for title, at in places:
        assert 0 <= at["x"] < at["x"] + at["w"] <= 24, title
    for (one, a), (other, b) in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (one, other)


@every_dashboard
def test_queries_carry_only_what_the_data_source_reads(file: Path) -> None:
    for panel in panels(read(file)):
        for target in panel["targets"]:
            assert set(target) <= TARGET_KEYS, panel["title"]
            assert target.get("range", False) != target.get("instant", False), panel["title"]


@every_dashboard
def test_its_variables_are_all_known(file: Path) -> None:
    known = {"job", "instance", "model", "__rate_interval", "__range"}
    for query in of_dashboard(file):
        used = {one or other for one, other in VARIABLE.findall(query.expression)}
        assert used <= known, query.where


def test_a_deadline_in_the_past_reads_as_in_use() -> None:
    table = next(
        p for p in panels(read(FOLDER / "ollama-overview.json")) if "keep-alive" in p["title"]
    )
    overrides = {
        o["matcher"]["options"]: o["properties"] for o in table["fieldConfig"]["overrides"]
    }
    mappings = next(each["value"] for each in overrides["Leaves in"] if each["id"] == "mappings")
    past = [m["options"] for m in mappings if m["options"]["to"] == 0]
    assert [(m["from"], m["result"]["text"]) for m in past] == [(None, "in use")]


def test_a_name_has_one_colour_everywhere() -> None:
    colours: dict[str, set[str]] = {}
    for file in FILES:
        for panel in panels(read(file)):
            for override in panel["fieldConfig"]["overrides"]:
                for each in override["properties"]:
                    if each["id"] == "color" and override["matcher"]["id"] == "byName":
                        named = colours.setdefault(override["matcher"]["options"], set())
                        named.add(each["value"]["fixedColor"])
    assert len(colours) > 30
    assert {key: value for key, value in colours.items() if len(value) > 1} == {}


def test_every_runbook_that_is_linked_exists() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in FILES)
    linked = set(re.findall(r"/runbooks/(\w+\.md)", text))
    there = {page.name for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert len(linked) > 10
    assert linked <= there


def test_the_command_writes_them_and_says_where_the_runbooks_are(tmp_path: Path) -> None:
    command = ["dashboards", str(tmp_path), "--runbooks", "https://wiki.example/ollama"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    written = [Path(line) for line in done.stdout.splitlines()]
    assert [file.name for file in written] == [file.name for file in FILES]
    links = [link["url"] for file in written for link in read(file)["links"]]
    assert "https://wiki.example/ollama/" in links
    text = "".join(file.read_text(encoding="utf-8") for file in written)
    assert "ollama-exporter.example" not in text
    written[0].write_text("{}", encoding="utf-8")
    assert CliRunner().invoke(cli, command).exit_code == 1  # somebody's work
    assert CliRunner().invoke(cli, [*command, "--force"]).exit_code == 0


def test_what_provisioning_names_exists() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text("utf-8"))
    providers = yaml.safe_load((folder / "dashboards" / "ollama.yaml").read_text("utf-8"))
    (source,) = sources["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert source["jsonData"]["timeInterval"] == "15s"
    (provider,) = providers["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


@pytest.mark.slow(seconds=5)
def test_it_is_valid_by_grafanas_own_types_and_a_misspelt_option_is_found(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (SCHEMAS / "node_modules").is_dir():
        pytest.skip("make dashboard-schemas gets what this needs, by npm")
    dashboard = read(FILES[0])
    drawn = next(panel for panel in panels(dashboard) if panel["type"] == "timeseries")
    drawn["options"]["legned"] = drawn["options"].pop("legend")
    drawn["fieldConfig"]["defaults"]["custom"]["fillOpacty"] = 3
    misspelt = tmp_path / "misspelt.json"
    misspelt.write_text(json.dumps(dashboard), encoding="utf-8")
    done = subprocess.run(
        [node, "check.js", *map(str, FILES), str(misspelt)],
        cwd=SCHEMAS,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    where = f"{dashboard['title']}: {drawn['title']}"
    assert done.stderr.splitlines() == [
        f"{where} options: must NOT have additional properties legned",
        f"{where} custom: must NOT have additional properties fillOpacty",
    ]
    assert done.returncode == 1
