# SPDX-License-Identifier: Apache-2.0
"""The command line: help, version, completion, misuse; each once as a process."""

import os
import subprocess
import sys
from typing import Final

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

import ollama_exporter
from ollama_exporter.cli.main import COMMANDS, cli
from tests.support.patience import PATIENCE

PROGRAM: Final = [sys.executable, "-m", "ollama_exporter"]
VARIABLE: Final = "_OLLAMA_EXPORTER_COMPLETE"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def completions(*words: str) -> set[str]:
    """Return what may stand for the last word."""
    completed = BashComplete(cli, {}, "ollama-exporter", VARIABLE)
    return {item.value for item in completed.get_completions(list(words[:-1]), words[-1])}


def test_help_lists_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert [command for command in COMMANDS if f"  {command} " not in done.stdout] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(cli, [command, "--help"], prog_name="ollama-exporter")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"Usage: ollama-exporter {command}")


def test_the_version_is_told_without_loading_a_web_server() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ollama_exporter", "--version"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0
    assert ollama_exporter.__version__ in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert loaded.isdisjoint({"httpx", "starlette", "uvicorn", "prometheus_client", "rich"})


def test_commands_and_flags_complete() -> None:
    words = {VARIABLE: "bash_complete", "COMP_WORDS": "ollama-exporter re", "COMP_CWORD": "1"}
    done = run(**words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["plain,record", "plain,replay"]
    assert completions("demo", "--du") == {"--duration"}
    assert completions("--log.") == {"--log.level", "--log.format"}
    assert completions("--log.level=debug", "--log.f") == {"--log.format"}
    assert completions("--he") == {"--help"}


def test_the_completion_script_of_a_shell_is_printed() -> None:
    done = run(**{VARIABLE: "zsh_source"})
    assert done.returncode == 0, done.stderr
    assert "ollama-exporter" in done.stdout


def test_misuse_of_the_process_ends_with_one_line_and_2() -> None:
    done = run("nonsense")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "nonsense" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("duration", ["soon", "0", "500ms"])
def test_misuse_of_a_command_ends_with_one_line_and_2(duration: str) -> None:
    done = CliRunner().invoke(cli, ["demo", "--duration", duration])
    assert done.exit_code == 2
    assert "Error: " in done.stderr.splitlines()[-1]
    assert duration in done.stderr.splitlines()[-1]
