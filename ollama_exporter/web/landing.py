# SPDX-License-Identifier: Apache-2.0
"""The landing page: plain HTML, no script, light and dark by the reader's preference."""

from collections.abc import Mapping
from html import escape
from typing import Final

from ollama_exporter.poller.published import Published

STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}"
    "dt{font-weight:600}dd{margin:0 0 .5rem}"
)
# The page needs its own style and nothing else.
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def facts_of(url: str, published: Published) -> dict[str, str]:
    """Return what is known now, for the page."""
    server, models = published.server, published.view.models
    resident = [model.name for model in models if model.resident] if server.up else []
    return {
        "Server": url,
        "Answers": "yes" if server.up else "no",
        "Version": server.version or "not known yet",
        "Resident": ", ".join(resident) or "none",
    }


def page(*, version: str, links: Mapping[str, str], facts: Mapping[str, str]) -> str:
    """Return the page. `links`: path -> what is there; `facts`: what is known now."""
    items = "".join(
        f'<li><a href="{escape(path)}">{escape(path)}</a> {escape(text)}</li>'
        for path, text in links.items()
    )
    known = "".join(
        f"<dt>{escape(term)}</dt><dd>{escape(value)}</dd>" for term, value in facts.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>ollama_exporter</title><style>{STYLE}</style></head><body>"
        f"<h1>ollama_exporter {escape(version)}</h1>"
        "<p>What is loaded in Ollama, until when, what left memory and why.</p>"
        f"<ul>{items}</ul><dl>{known}</dl></body></html>\n"
    )
