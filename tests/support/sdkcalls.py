# SPDX-License-Identifier: Apache-2.0
"""What an application does with ollama-python: run as a program, with a version of it on the path.

`python -m tests.support.sdkcalls URL [in-process]` prints what it got as JSON, and last what was
recorded when it instruments itself.
"""

import asyncio
import json
import sys
from typing import Any, Final

import ollama
from pydantic import BaseModel

import ollama_exporter
from ollama_exporter import Observation

MODEL: Final = "llama3.2"
WORDS: Final = "say [[n=3 ttft=0.01 tps=200]]"
CHAT: Final[list[Any]] = [{"role": "user", "content": WORDS}]


class Answer(BaseModel):
    """A structured output."""

    words: list[str]


def calls(client: Any) -> list[object]:
    """Call everything, streamed and not."""
    made = [
        client.generate(MODEL, WORDS).response,
        [part.response for part in client.generate(MODEL, WORDS, stream=True)],
        client.chat(MODEL, messages=CHAT).message.content,
        [part.message.content for part in client.chat(MODEL, messages=CHAT, stream=True)],
        client.chat(MODEL, messages=CHAT, format=Answer.model_json_schema()).done_reason,
        client.chat(MODEL, messages=CHAT, tools=[add]).done_reason,
        len(client.embed("nomic-embed-text", ["a", "b"]).embeddings),
        sorted(model.model for model in client.list().models),
        sorted(model.model for model in client.ps().models),
        client.generate(MODEL, "", keep_alive=60).done_reason,
    ]
    try:
        client.generate("absent", "x")
    except ollama.ResponseError as err:
        made.append([err.status_code, err.error])
    return made


async def async_calls(client: Any) -> list[object]:
    """Likewise, the asynchronous client."""
    streamed = await client.chat(MODEL, messages=CHAT, stream=True)
    return [
        (await client.generate(MODEL, WORDS)).response,
        [part.message.content async for part in streamed],
    ]


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: one
        b: the other
    """
    return a + b


def main() -> None:
    """Call, print."""
    url, seen = sys.argv[1], list[Observation]()
    client, async_client = ollama.Client(url), ollama.AsyncClient(url)
    if sys.argv[2:] == ["in-process"]:
        for each in (client, async_client):
            ollama_exporter.instrument(each, on_request=seen.append)
    got = [*calls(client), *asyncio.run(async_calls(async_client))]
    told = [[s.route.label, s.code, s.outcome, s.response.output_tokens] for s in seen]
    sys.stdout.write(f"{json.dumps(got)}\n{json.dumps(told)}\n")


if __name__ == "__main__":
    main()
