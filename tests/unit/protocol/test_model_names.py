# SPDX-License-Identifier: Apache-2.0
import pytest

from ollama_exporter.protocol.model_names import normalise


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mistral", "mistral:latest"),
        ("mistral:7b", "mistral:7b"),
        ("registry.ollama.ai/library/mistral", "mistral:latest"),
        ("library/mistral:7b", "mistral:7b"),
        ("user/mistral", "user/mistral:latest"),
        ("host:5000/user/mistral", "host:5000/user/mistral:latest"),
    ],
)
def test_names_have_one_spelling(given: str, expected: str) -> None:
    assert normalise(given) == expected
    assert normalise(expected) == expected
