# SPDX-License-Identifier: Apache-2.0
"""Draw `top` at the end of the scripted hour, as an SVG: part of `make pictures`."""

import io
import re
import sys
from datetime import UTC
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI

from dashboards.pictures.__main__ import IMAGES
from dashboards.pictures.live_page import END, ended
from ollama_exporter.cli.present.board import BoardState, board
from ollama_exporter.story.document import read_document

WIDTH, HEIGHT = 110, 24  # cells
PICTURE: Final = "top.svg"
FONT: Final = re.compile(r"\s*@font-face \{[^}]*\}", re.DOTALL)


def main() -> None:
    """Write docs/images/top.svg."""
    document = read_document(ended().document().plain)
    lines = board(document, BoardState(), now=END, width=WIDTH, height=HEIGHT, zone=UTC)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(line)
    svg = console.export_svg(title="ollama-exporter top", theme=MONOKAI, unique_id="top")
    # The font comes from the reader's machine: a page must not load one from elsewhere.
    (IMAGES / PICTURE).write_text(FONT.sub("", svg), "utf-8")
    sys.stdout.write(f"docs/images/{PICTURE}\n")


if __name__ == "__main__":
    main()
