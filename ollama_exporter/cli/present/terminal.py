# SPDX-License-Identifier: Apache-2.0
"""The terminal of all commands: whatever is printed passes the cleaning of foreign text.

Names of models, errors of servers and texts of recordings are other people's. Markup and emoji
codes in them are not interpreted.
"""

from collections.abc import Iterable

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from ollama_exporter.foreign_text import printable_lines


class TerminalConsole(Console):
    """A rich console that prints nothing but printable characters and its own control codes."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render, and clean each piece of text."""
        for segment in super().render(renderable, options):
            if segment.control is None:
                yield Segment(printable_lines(segment.text), segment.style)
            else:
                yield segment


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text. Line ends and tabs stay."""
    click.echo(printable_lines(str(text)), err=err, nl=nl)
