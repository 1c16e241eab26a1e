# SPDX-License-Identifier: Apache-2.0
"""The front page of an exporter that watches several servers: a list, with a live page for each."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final
from urllib.parse import urlencode

from ollama_exporter.foreign_text import clean
from ollama_exporter.poller.published import Published
from ollama_exporter.story.hidden_story import Hide
from ollama_exporter.story.phrases import shown

FLEET_LINKS: Final = {"/probe?target=NAME": "metrics of one server; /sd lists their names"}
MOST_NAMED: Final = 8  # models of a server that the list names


def fleet_page(
    rows: Iterable[tuple[str, Published]],
    *,
    version: str,
    links: Mapping[str, str],
    hide: Hide | None = None,
) -> bytes:
    """Return the page. `rows`: names of targets, and what is known; `links`: path -> what is there.

    `hide` replaces the names of models. The page needs no script.
    """
    listed = sorted(rows, key=lambda row: (row[1].server.up, row[0]))  # what is down comes first
    answering = sum(published.server.up for _, published in listed)
    items = "".join(
        f'<li><a href="{escape(path)}">{escape(path)}</a> {escape(text)}</li>'
        for path, text in links.items()
    )
    body = "".join(_row(name, published, hide or shown) for name, published in listed)
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
        f"<footer><ul>{items}</ul><p>ollama_exporter {escape(version)}</p></footer>"
        "</body></html>\n"
    ).encode()


def _row(name: str, published: Published, model_name: Hide) -> str:
    server = published.server
    models = [state.name for state in published.view.models if state.resident]
    models = models if published.is_listed else []
    named = ", ".join(map(model_name, models[:MOST_NAMED]))
    if len(models) > MOST_NAMED:
        named = f"{named} and {len(models) - MOST_NAMED} more"
    link = escape(f"?{urlencode({'target': name})}")
    answers = "yes" if server.up else '<b class="dead">no</b>'
    return (
        f'<tr><td><a href="{link}">{escape(clean(name))}</a></td>'
        f'<td data-of="Answers">{answers}</td>'
        f'<td data-of="In memory">{escape(named) or "nothing"}</td>'
        f'<td data-of="Version">{escape(server.version or "")}</td></tr>'
    )
