# SPDX-License-Identifier: Apache-2.0
"""A refusal reaches a terminal as one printable line, and what is no answer is one too."""

import asyncio
import json

import pytest

from ollama_exporter.config.target import Target
from ollama_exporter.errors import RequestError
from ollama_exporter.protocol.control_client import LONGEST_TEXT, ControlClient
from tests.support.faultserver import answer, faultserver
from tests.support.patience import PATIENCE


@pytest.mark.parametrize(
    "text", ["line 1\nm: loaded in 0.0 s", "\x1b]0;own\x07", "\u202e", "\x9b2J", "x" * 100_000]
)
def test_the_text_of_an_error_is_one_printable_line(text: str) -> None:
    async def main() -> None:
        behave = answer(json.dumps({"error": text}).encode(), status="500 Oops")
        async with faultserver(behave) as server:
            client = ControlClient(Target("ollama", server.url))
            with pytest.raises(RequestError) as caught:
                await client.preload("m", patience=PATIENCE)
            assert caught.value.text.isprintable()
            assert len(caught.value.text) <= LONGEST_TEXT + 20
            await client.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"response":"a","done":false}\n', "the answer broke off"),
        (b'{"response":"a","done":false}\n{"error":"out of\\nmemory"}\n', "out of"),
        (b"<!doctype html><title>Log in</title>", "page"),
    ],
)
def test_an_answer_that_is_none_is_an_error_whatever_its_status(body: bytes, said: str) -> None:
    async def main() -> None:
        async with faultserver(answer(body)) as server:
            client = ControlClient(Target("ollama", server.url))
            with pytest.raises(RequestError) as caught:
                await client.generate({"model": "m"}, patience=PATIENCE, now=lambda: 0.0)
            assert said in caught.value.text
            assert caught.value.text.isprintable()
            await client.aclose()

    asyncio.run(main())
