# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.host.processes.command_lines import is_server, weights_in

HEX = "0123456789abcdef" * 4
WEIGHTS = f"sha256-{HEX}"


@pytest.mark.parametrize(
    ("command", "server"),
    [
        (["/usr/local/bin/ollama", "serve"], True),
        (["ollama", "start"], True),
        (["C:\\Users\\me\\AppData\\Local\\Programs\\Ollama\\ollama.exe", "serve"], True),
        (["/Applications/Ollama.app/Contents/Resources/ollama", "serve"], True),
        (["ollama", "run", "serve"], False),
        (["ollama"], False),
        (["/bin/sh", "serve"], False),
        (["vim", "ollama", "serve"], False),
        (["/usr/bin/my-ollama", "serve"], False),
        ([], False),
    ],
)
def test_a_server_is_known_by_program_and_command(command: list[str], *, server: bool) -> None:
    assert is_server(command) is server


@pytest.mark.parametrize(
    "command",
    [
        ["/usr/bin/ollama", "runner", "--model", f"/m/blobs/{WEIGHTS}", "--port", "1"],
        ["ollama", "runner", "--ollama-engine", "--model", f"/m/blobs/{WEIGHTS}", "--port", "1"],
        ["/lib/ollama/llama-server", "--model", f"/m/blobs/{WEIGHTS}", "--port", "1", "-c", "9"],
        ["llama-server.exe", "-model", f"D:\\models\\blobs\\{WEIGHTS}"],
        ["llama-server", "--lora", f"/m/blobs/sha256-{'f' * 64}", "--model", f"/m/{WEIGHTS}"],
    ],
)
def test_runners_of_both_generations_name_their_weights(command: list[str]) -> None:
    assert weights_in(command) == WEIGHTS


@pytest.mark.parametrize(
    "command",
    [
        ["/lib/ollama/llama-server", "--list-devices"],
        ["/lib/ollama/llama-server", "--port", "40001"],
        ["ollama", "runner", "--ollama-engine", "--port", "40001"],
        ["ollama", "runner", "--mlx-engine", "--model", "gemma3:4b", "--port", "1"],
        ["llama-server", "--model"],
        ["llama-server", "--model", "/m/blobs/sha256-abc"],
        ["llama-server", "--model", f"/m/{WEIGHTS}.gguf"],
        [],
    ],
)
def test_whatever_has_no_blob_is_no_runner(command: list[str]) -> None:
    assert weights_in(command) is None
