# SPDX-License-Identifier: Apache-2.0
import io
from contextlib import redirect_stderr, redirect_stdout

import pytest
from rich.live import Live
from rich.progress import Progress
from rich.table import Table

from ollama_exporter.cli.present.terminal import TerminalConsole, echo

HOSTILE = "a\x1b]0;own\x07b\x9b2Jc\u202ed"


def shown(text: str) -> None:
    assert "\x1b]0" not in text
    assert not set(text) & {"\x07", "\x9b", "\u202e"}


def test_echo_shows_escapes_and_keeps_lines_and_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"name\t{HOSTILE}\nnext")
    text = capsys.readouterr().out
    shown(text)
    assert text.startswith("name\ta\\u001b")
    assert text.endswith("\nnext\n")


def test_tables_and_live_displays_are_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    console = TerminalConsole()
    table = Table()
    table.add_column("model", no_wrap=True)
    table.add_row(f"[/red]:smile: {HOSTILE}")
    console.print(table)
    with Live(table, console=console, auto_refresh=False):
        pass
    with Progress(console=console, auto_refresh=False) as progress:
        progress.add_task(HOSTILE, total=1)
    text = capsys.readouterr().out
    shown(text)
    assert "[/red]" in text
    assert ":smile:" in text


class Lost(io.StringIO):
    """A terminal that was closed, or a file on a full disk."""

    def write(self, _text: str) -> int:
        raise OSError(5, "Input/output error")

    def flush(self) -> None:
        raise OSError(5, "Input/output error")


def test_notes_that_nobody_can_read_end_no_work() -> None:
    with redirect_stderr(Lost()):
        echo("unloading", err=True)
        console = TerminalConsole(stderr=True)
        console.print("unloading")
        with console.status("loading"):
            pass
    with redirect_stdout(Lost()), pytest.raises(OSError, match="Input/output error"):
        echo("the answer")


def test_a_console_of_a_closed_standard_error_prints_nothing() -> None:
    with redirect_stderr(None):
        TerminalConsole(stderr=True).print("unloading")
