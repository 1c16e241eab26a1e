# SPDX-License-Identifier: Apache-2.0
"""The command line as a process: help, version, completion, misuse."""

import os
import subprocess
import sys
from typing import Final

import pytest

import ollama_exporter
from ollama_exporter.cli.main import COMMANDS
from tests.support.patience import PATIENCE

PROGRAM: Final = [sys.executable, "-m", "ollama_exporter"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def completions(words: str, index: int) -> set[str]:
    done = run(_OLLAMA_EXPORTER_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(index))
    assert done.returncode == 0, done.stderr
    return {line.partition(",")[2] for line in done.stdout.splitlines()}


def test_help_lists_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert [command for command in COMMANDS if f"  {command} " not in done.stdout] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0, done.stderr
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
    assert completions("ollama-exporter re", 1) == {"record", "replay"}
    assert completions("ollama-exporter demo --du", 2) == {"--duration"}
    assert completions("ollama-exporter --log.", 1) == {"--log.level", "--log.format"}
    assert completions("ollama-exporter --log.level=debug --log.f", 2) == {"--log.format"}
    assert completions("ollama-exporter --he", 1) == {"--help"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_each_shell_is_printed(shell: str) -> None:
    done = run(_OLLAMA_EXPORTER_COMPLETE=f"{shell}_source")
    assert done.returncode == 0, done.stderr
    assert "ollama-exporter" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["demo", "--duration", "soon"], ["demo", "--duration", "0"], ["nonsense"]]
)
def test_misuse_ends_with_one_line_and_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr.splitlines()[-1]
    assert arguments[-1] in done.stderr.splitlines()[-1]
