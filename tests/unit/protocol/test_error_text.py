# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.protocol.error_text import Failure, classify


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (
            "model runner has unexpectedly stopped, this may be due to resource limits",
            Failure.CRASHED,
        ),
        ("llama runner process no longer running: -1 ", Failure.CRASHED),
        ("an error was encountered while running the model: unexpected EOF", Failure.CRASHED),
        ("llama-server process has terminated: exit status 6", Failure.CRASHED),
        (
            "model runner has unexpectedly stopped: cudaMalloc failed: out of memory",
            Failure.OUT_OF_MEMORY,
        ),
        (
            'do embedding request: Post "http://127.0.0.1:35135/v1/embeddings": EOF',
            Failure.CRASHED,
        ),
        ("an unknown error was encountered while running the model ", Failure.CRASHED),
        ('POST predict: Post "http://127.0.0.1:42385/completion": EOF', Failure.CRASHED),
        ('POST predict: Post "http://127.0.0.1:1/completion": context canceled', Failure.OTHER),
        ('model "x" not found, try pulling it first', Failure.OTHER),
    ],
)
def test_error_texts_say_what_happened_to_the_runner(text: str, failure: Failure) -> None:
    assert classify(text) is failure
    assert classify(text.upper()) is failure
