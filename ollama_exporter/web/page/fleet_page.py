# SPDX-License-Identifier: Apache-2.0
"""The front page of an exporter that watches several servers: a list, with a live page for each."""

from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import urlencode

from ollama_exporter.foreign_text import clean
from ollama_exporter.story.fleet_document import TARGETS, FleetDocument, TargetNow
from ollama_exporter.web.page.html_page import list_items

FLEET_LINKS: Final = {
    "/probe?target=NAME": "metrics of one server; /sd lists their names",
    TARGETS: "this page as JSON",
}
MOST_NAMED: Final = 8  # models of a server that the list names


def fleet_page(document: FleetDocument, *, version: str, links: Mapping[str, str]) -> bytes:
    """Return the page. `links`: path -> what is there. It needs no script."""
    listed = document.targets
    answering = sum(target.up for target in listed)
    body = "".join(map(_row, listed))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        "<title>Ollama: all servers</title>"
        '<link rel="icon" href="page/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="page/page.css"></head><body>'
        '<header><h1>Ollama <span class="thin">on all servers</span></h1>'
        f"<p>{answering} of {len(listed)} servers answer.</p></header>"
        '<main><section aria-labelledby="servers"><h2 id="servers">Servers</h2>'
        '<table class="cards"><thead><tr><th scope="col">Server</th><th scope="col">Answers</th>'
        '<th scope="col">In memory</th><th scope="col">Version</th></tr></thead>'
        f"<tbody>{body}</tbody></table></section></main>"
        f"<footer><ul>{list_items(links)}</ul><p>ollama_exporter {escape(version)}</p></footer>"
        "</body></html>\n"
    ).encode()


def _row(target: TargetNow) -> str:
    named = ", ".join(model.name for model in target.models[:MOST_NAMED])
    if len(target.models) > MOST_NAMED:
        named = f"{named} and {len(target.models) - MOST_NAMED} more"
    link = escape(f"?{urlencode({'target': target.name})}")
    answers = "yes" if target.up else '<b class="dead">no</b>'
    return (
        f'<tr><td><a href="{link}">{escape(clean(target.name))}</a></td>'
        f'<td data-of="Answers">{answers}</td>'
        f'<td data-of="In memory">{escape(named) or "nothing"}</td>'
        f'<td data-of="Version">{escape(target.version or "")}</td></tr>'
    )
