# SPDX-License-Identifier: Apache-2.0
"""Requests through the proxy for other names of a resident model, and for models in the cloud."""

import asyncio
import json
from typing import Any

import httpx

from tests.support.exporting import Running, exporting
from tests.support.faultserver import Asked, FaultServer, entry, faultserver, send
from tests.support.patience import PATIENCE

DIGESTS = {"llama3:latest": "aa" * 32, "copy:latest": "aa" * 32, "child:latest": "bb" * 32}
CLOUD = {"name": "gpt-oss:120b-cloud", "remote_host": "https://ollama.com:443"}
MYCODER = {"name": "mycoder:latest", "remote_model": "gpt-oss:120b", "remote_host": "https://x"}
TAGS = [*({"name": n, "digest": d, "size": 5} for n, d in DIGESTS.items()), CLOUD, MYCODER]
SHOWN = {"modelfile": f"FROM /models/blobs/sha256-{'c' * 64}\n"}
STREAM = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":null}]}\n\ndata: [DONE]\n\n'


async def server_of_two_names(_: FaultServer, asked: Asked, writer: asyncio.StreamWriter) -> None:
    """One resident model with two more names, and two models of the cloud."""
    answers: dict[str, Any] = {
        "/api/ps": {"models": [entry("llama3:latest", None, digest="aa" * 32)]},
        "/api/tags": {"models": TAGS},
        "/api/version": {"version": "0.33.0"},
        "/api/show": SHOWN,
    }
    if asked.path in answers:
        await send(writer, json.dumps(answers[asked.path]).encode())
    else:
        kind = "Content-Type: text/event-stream\r\nConnection: close\r\n"
        await send(writer, STREAM, headers=kind)
    if asked.path not in ("/api/ps", "/api/tags", "/api/version"):
        writer.close()  # the body of the request was not read


def test_a_request_for_another_name_of_a_resident_model_is_warm() -> None:
    async def main() -> None:
        async with (
            faultserver(server_of_two_names) as server,
            exporting(server.url, proxy_addresses=(":0",)) as exporter,
        ):
            await exporter.until(lambda s: s.get(("ollama_models_installed", "")) == 5)
            for name in ("copy", "child"):  # by its digest at once, by its weights when known
                await until_start(exporter, f"{name}:latest", "warm")
            for name in ("gpt-oss:120b-cloud", "mycoder:latest"):
                await until_start(exporter, name, "remote")
            samples = await exporter.samples()
            for name in ("copy:latest", "child:latest", "gpt-oss:120b-cloud", "mycoder:latest"):
                assert samples["ollama_cold_starts_total", f"model={name}"] == 0
                assert ("ollama_requests_waiting_for_load", f"model={name}") not in samples

    asyncio.run(main())


async def until_start(exporter: Running, model: str, start: str) -> None:
    """Send requests until one counts with this start; none may be cold."""
    said = [r for r in exporter.log.records if r.getMessage() == "Proxy listening on"]
    url = f"http://{vars(said[0])['address']}/v1/chat/completions"
    count = ("ollama_request_duration_seconds_count", f"model={model},start={start}")
    while count not in await exporter.samples():
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            answer = await client.post(url, json={"model": model, "stream": True})
            assert answer.status_code == 200
