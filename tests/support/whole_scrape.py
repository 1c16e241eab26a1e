# SPDX-License-Identifier: Apache-2.0
"""A scrape in one piece."""

from typing import Any

from prometheus_client import CollectorRegistry

from ollama_exporter.metrics.exposition import in_parts
from ollama_exporter.metrics.rendering import Renderer


def render(
    registry: CollectorRegistry, renderer: Renderer, **asked: Any
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a scrape; see `in_parts`."""
    headers, parts = in_parts(registry, renderer, **asked)
    return headers, b"".join(parts)
