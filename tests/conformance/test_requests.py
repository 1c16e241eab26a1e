# SPDX-License-Identifier: Apache-2.0
"""How the server decodes requests: §8 of docs/ollama-facts.md."""

import time

import pytest

from tests.conformance.talk import BOUND, Ollama, expiry, until

SAY = '"prompt":"Say something."'
FOUR = '"options":{"num_predict":4}'


def send(ollama: Ollama, body: str, *, status: int = 200) -> None:
    answer = ollama.http.post("/api/generate", content=body.encode())
    assert answer.status_code == status, answer.text


def ends_in(ollama: Ollama, model: str, seconds: float) -> None:
    """Wait until the model's deadline is that far ahead of now."""
    ended = time.time()
    until(
        lambda: abs(expiry(ollama.listed(model)) - ended - seconds) < BOUND or None, f"{seconds} s"
    )


@pytest.mark.parametrize(
    "fields",
    [
        '"Keep_Alive":91',
        '"keep_alive":600,"KEEP_ALIVE":91',
        '"KEEP_ALIVE":600,"keep_alive":91',
        '"keep\\u005falive":91',
        '"\\u212aeep_alive":91',
    ],
)
def test_keys_match_in_any_case_and_the_last_one_counts(
    ollama: Ollama, model: str, fields: str
) -> None:
    """§8.1."""
    send(ollama, f'{{"model":"{model}",{SAY},{FOUR},"stream":false,{fields}}}')
    ends_in(ollama, model, 91)


@pytest.mark.parametrize(
    "options",
    [
        '"options":{"num_ctx":1024.0}',
        '"options":{"num_ctx":1.024e3}',
        '"options":{"num_ctx":1024.9}',
        '"OPTIONS":{"num_ctx":1024}',
        '"options":{"num_ctx":1024},"options":{"num_predict":4}',
        '"options":{"num_ctx":1024,"Num_Ctx":2048}',
    ],
)
def test_options_are_one_map_of_exact_keys_with_truncated_numbers(
    ollama: Ollama, model: str, options: str
) -> None:
    """§8.2."""
    send(ollama, f'{{"model":"{model}","stream":false,"keep_alive":60,{options}}}')
    assert ollama.listed(model)["context_length"] == 1024


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"%s","keep_alive":92,"x":"\\ud83d"}',
        '{"model":"%s","keep_alive":92,"x":' + "9" * 5000 + "}",
        '{"model":"%s","keep_alive":92,"x":' + "[" * 5000 + "]" * 5000 + "}",
        '{"model":"%s","keep_alive":92} and more',
    ],
    ids=["a lone surrogate", "a long number", "deep nesting", "text behind the object"],
)
def test_what_other_decoders_reject_is_accepted(ollama: Ollama, model: str, body: str) -> None:
    """§8.3."""
    send(ollama, body.replace("%s", model))
    ends_in(ollama, model, 92)
