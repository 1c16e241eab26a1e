# SPDX-License-Identifier: Apache-2.0
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
