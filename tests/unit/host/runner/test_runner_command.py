# SPDX-License-Identifier: Apache-2.0
import shlex

import pytest

from ollama_exporter.host.runner.runner_command import RunnerCommand, runner_command

REAL = shlex.split(
    "/usr/local/lib/ollama/llama-server --model /blobs/sha256-0d --port 42213 --host 127.0.0.1 "
    "--no-webui --offline -c 8192 -np 2 --log-verbosity 4 --load-mode none --flash-attn auto "
    "-b 1024 -ub 1024 --context-shift --keep 4"
)


def test_a_real_command_line_is_read() -> None:
    assert runner_command(REAL) == RunnerCommand(
        42213, slots=2, context=8192, flash_attention="auto", batch="1024", context_shift=True
    )


def test_an_interpreter_or_a_loader_may_come_first() -> None:
    assert runner_command(["/usr/bin/python3", *REAL]) == runner_command(REAL)


def test_settings_that_are_not_defaults_are_read() -> None:
    more = shlex.split("--cache-type-k q8_0 --cache-type-v q4_0 -ngl 33 -md /blobs/sha256-1")
    found = runner_command([*REAL, *more])
    assert found is not None
    assert (found.kv_cache_type, found.gpu_layers, found.speculative) == ("q8_0/q4_0", "33", True)


@pytest.mark.parametrize(
    ("place", "word"),
    [
        ("42213", "0"),
        ("42213", "65536"),
        ("42213", "١٢"),
        ("42213", "8080@evil"),
        ("127.0.0.1", "10.0.0.7"),
        ("127.0.0.1", "::"),
        ("/usr/local/lib/ollama/llama-server", "/usr/bin/ollama"),
    ],
)
def test_only_llama_server_on_the_loopback_is_asked(place: str, word: str) -> None:
    assert runner_command([word if each == place else each for each in REAL]) is None


@pytest.mark.parametrize("odd", ["x" * 100, "\x1b[2J", "a b", '"', ""])
def test_a_value_that_is_not_plain_is_left_out(odd: str) -> None:
    found = runner_command([*REAL, "--flash-attn", odd, "-b", odd])
    assert found is not None
    assert (found.flash_attention, found.batch) == ("", "")


@pytest.mark.parametrize("command", [[], ["llama-server"], ["llama-server", "--port"]])
def test_a_command_line_without_a_port_is_none(command: list[str]) -> None:
    assert runner_command(command) is None
