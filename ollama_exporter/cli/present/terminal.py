# SPDX-License-Identifier: Apache-2.0
"""The terminal of all commands: whatever is printed passes the cleaning of foreign text.

Names of models, errors of servers and texts of recordings are other people's. Markup and emoji
codes in them are not interpreted.
"""

import sys
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from typing import IO, Any, cast

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from ollama_exporter.foreign_text import printable_lines


class TerminalConsole(Console):
    """A rich console that prints nothing but printable characters and its own control codes."""

    def __init__(self, *, stderr: bool = False) -> None:
        notes = cast("IO[str]", _Notes(sys.stderr)) if stderr and sys.stderr is not None else None
        super().__init__(file=notes, stderr=stderr, highlight=False, markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render, and clean each piece of text."""
        for segment in super().render(renderable, options):
            if segment.control is None:
                yield Segment(printable_lines(segment.text), segment.style)
            else:
                yield segment


class _Notes:
    """Standard error, the loss of which ends nothing: see `echo`."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream has
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write if it can be written."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush likewise."""
        with suppress(OSError):
            self._stream.flush()


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text. Line ends and tabs stay.

    `err`: it is a note about the work. Nobody may be there to read it (a closed terminal, `| head`,
    a full disk), and the work goes on: it may have to put a server back as it was.
    """
    with suppress(OSError) if err else nullcontext():
        click.echo(printable_lines(str(text)), err=err, nl=nl)
