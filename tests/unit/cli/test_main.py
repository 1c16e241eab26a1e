# SPDX-License-Identifier: Apache-2.0
"""The group of commands: unknown words, one line for each error, plain output in pipes."""

import errno
import re
import subprocess
import sys
from typing import Final

import click
import pytest
from click.testing import CliRunner

from ollama_exporter.cli.main import COMMANDS, LazyGroup, cli
from ollama_exporter.metrics.catalog.all_families import FAMILIES
from tests.support.faultserver import closed_port
from tests.support.patience import PATIENCE


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("wram", "no such command 'wram'; did you mean warm?"),
        ("dashboard", "did you mean dashboards?"),
        ("help", "did you mean --help?"),
        ("version", "did you mean --version?"),
        ("xyzzy", "`ollama-exporter --help` lists all commands"),
        ("a\x1b]0;x\x07", "\\u001b"),
    ],
)
def test_an_unknown_command_gets_a_suggestion(word: str, said: str) -> None:
    done = CliRunner().invoke(cli, [word])
    assert done.exit_code == 2
    assert said in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("command", ["warm", "measure"])
def test_a_server_that_is_down_is_named_with_what_to_do(command: str) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    done = CliRunner().invoke(cli, [command, "mistral", "--ollama.url", url])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        f"Error: cannot reach Ollama at {url} (Connection refused); is it running? "
        "--ollama.url or OLLAMA_HOST names another server"
    )


def test_piped_the_catalog_is_one_line_for_each_metric() -> None:
    done = CliRunner().invoke(cli, ["metrics"])
    lines = done.stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(FAMILIES)
    assert {line.count("\t") for line in lines} == {5}


def test_on_a_narrow_terminal_no_name_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    cli.main(["metrics"], standalone_mode=False)
    text = capsys.readouterr().out
    assert all(name in text for name in FAMILIES)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_into_80_columns_and_breaks_no_flag(command: str) -> None:
    done = CliRunner().invoke(cli, [*([command] if command else []), "--help"], terminal_width=80)
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    broken = re.compile(r"(?:^|\s)(?:--?[a-z][\w.-]*-|ollama-)$")
    assert [line for line in lines if broken.search(line)] == []


def test_serve_imports_nothing_that_it_does_not_use() -> None:
    code = (
        "import gc, sys\n"
        "from ollama_exporter.cli.main import cli\n"
        "assert cli.get_command(None, 'serve') is not None\n"
        "others = {'pygments', 'rich', 'yaml', 'ollama_exporter.simulator'}\n"
        "print(gc.isenabled(), *(others & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


FULL: Final = '"$@" > /dev/full'


@pytest.mark.parametrize(
    ("shell", "arguments", "said"),
    [
        # A table, a server that listens already, and what is printed before a command runs.
        (FULL, ["metrics"], "output cannot be written: No space left on device"),
        (FULL, ["simulate", "--listen=:0"], "output cannot be written: No space left on device"),
        (FULL, ["replay", "--help"], "output cannot be written: No space left on device"),
        ('"$@" >&-', ["top", "--url=http://127.0.0.1:{port}"], "is an exporter running there?"),
    ],
)
def test_output_that_nobody_can_have_is_one_line(
    shell: str, arguments: list[str], said: str
) -> None:
    filled = [word.format(port=closed_port()) for word in arguments]
    program = ["sh", "-c", shell, "sh", sys.executable, "-m", "ollama_exporter", *filled]
    done = subprocess.run(program, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


class Failing(LazyGroup):
    """Its tasks fail like this."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self._failed = ExceptionGroup("tasks", errors)

    def invoke(self, ctx: click.Context) -> object:  # noqa: ARG002 - click's signature
        raise self._failed


def test_a_task_that_cannot_print_hides_no_other_error(capsys: pytest.CaptureFixture[str]) -> None:
    full, left = OSError(errno.ENOSPC, "Full"), OSError(errno.EPIPE, "Broken pipe")
    for error, said in ((full, "Error: output cannot be written: Full\n"), (left, "")):
        with pytest.raises(SystemExit) as ended:
            Failing(error).main(["metrics"], prog_name="x")
        assert ended.value.code == 1
        assert capsys.readouterr().err == said
    with pytest.raises(ExceptionGroup):
        Failing(full, ValueError("a bug")).main(["metrics"], prog_name="x")
    named = OSError(errno.ENOSPC, "Full", "/var/lib/state")  # of a file of ours
    with pytest.raises(ExceptionGroup):
        Failing(named).main(["metrics"], prog_name="x")
