# SPDX-License-Identifier: Apache-2.0
"""The page as the server writes it: readable tables, which the script replaces by what is live."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Final

import msgspec

from ollama_exporter.protocol.keepalive import compact
from ollama_exporter.story.past import Past, PastEvent
from ollama_exporter.story.status import ModelNow, Status

MOST_EVENTS: Final = 50  # in the table; the script shows all
GB: Final = 1e9


class _Document(msgspec.Struct):
    """What of the JSON the tables need."""

    now: float
    status: Status
    past: Past


_DOCUMENT: Final = msgspec.json.Decoder(_Document)


def html_page(document: bytes, *, version: str, links: Mapping[str, str]) -> bytes:
    """Return the page. `document`: the JSON of everything; `links`: path -> what is there."""
    told = _DOCUMENT.decode(document)
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    page = template.substitute(
        version=escape(version),
        server=escape(_server(told.status)),
        models=_models(told.status, told.now),
        events=_events(told.past.events),
        links=list_items(links),
        # A script of the type JSON is not run; "<" alone could end it.
        document=document.decode().replace("<", "\\u003c"),
    )
    return page.encode()


def list_items(links: Mapping[str, str]) -> str:
    """Return the items of a list of links. `links`: path -> what is there."""
    return "".join(
        f'<li><a href="{escape(path)}">{escape(path)}</a> {escape(text)}</li>'
        for path, text in links.items()
    )


def _server(status: Status) -> str:
    server = status.server
    answers = "answers" if server.up else "does not answer"
    version = f"Ollama {server.version} " if server.version else "The server "
    return f"{version}at {server.url} {answers}."


def _models(status: Status, now: float) -> str:
    rows = [
        [
            model.name,
            "in memory" if model.resident else "loading",
            _until(model, now),
            f"{model.size / GB:.1f} GB",
            "" if model.rank is None else str(model.rank),
        ]
        for model in sorted(status.models, key=lambda each: each.rank or 0)
    ]
    headings = ("Model", "State", "Until", "Memory", "Eviction order")
    return _table(headings, rows) if rows else "<p>No model is in memory.</p>"


def _until(model: ModelNow, now: float) -> str:
    if model.busy:
        return "in use"
    if model.pinned:
        return "never"
    if model.deadline is None:
        return ""
    left = compact(float(max(0, round(model.deadline - now))))
    return f"{_utc(model.deadline)} (in {left})"


def _events(events: tuple[PastEvent, ...]) -> str:
    rows = [
        [_utc(event.at), event.model or "server", event.text, "; ".join(event.evidence)]
        for event in sorted(events, key=lambda each: -each.at)[:MOST_EVENTS]
    ]
    headings = ("When", "Model", "What", "Because")
    return _table(headings, rows) if rows else "<p>Nothing happened within the last hour.</p>"


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in headings)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S UTC")
