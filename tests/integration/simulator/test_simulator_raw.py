# SPDX-License-Identifier: Apache-2.0
"""The simulator's answers beside the raw answers of a real server: the same shape to the byte.

Compared: status line, set of fields, framing, and of every JSON object its keys in their order and
the type of each value. Not compared: moments, counts, ids, texts, and how long vectors are.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from ollama_exporter.simulator.model_files import GIB, ModelFiles, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from tests.support.paths import DATA
from tests.support.patience import PATIENCE

RAW = DATA / "http"
AT_ONCE = default_catalogue().compressed(1e4)
INDEX: list[dict[str, Any]] = json.loads((RAW / "index.json").read_text())


def catalogue() -> ModelFiles:
    """The recorded server's models, which load at once."""
    known = default_catalogue().manifests
    text, vector = known["mistral:latest"], known["nomic-embed-text:latest"]
    names = {"embed-e:latest": vector} | {
        f"{name}:latest": text for name in ("mistral", "tiny-a", "tiny-b", "tiny-c", "tiny-d")
    }
    manifests = {}
    for name, manifest in names.items():
        file = replace(
            manifest.file, weights=f"sha256-{name:0<64}", load_seconds=0.01, embedding_length=3
        )
        manifests[name] = replace(manifest, file=file)
    return ModelFiles(manifests)


@asynccontextmanager
async def simulator() -> AsyncIterator[Simulator]:
    host = Host(memory=24 * GIB, recovery=0.01, convergence=0.01)
    async with Simulator(Config(host=host, catalogue=catalogue(), version="0.0.0")) as sim:
        yield sim


async def exchange(sim: Simulator, line: str, body: str | None, host: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sim.url.rsplit(":", 1)[1]))
    data = b"" if body is None else body.encode()
    fields = f"Host: {host}\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(f"{line}\r\n{fields}".encode() + data)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def chunks(body: bytes) -> list[bytes]:
    found: list[bytes] = []
    while True:
        size, body = body.split(b"\r\n", 1)
        length = int(size, 16)
        if length == 0:
            assert body == b"\r\n"
            return found
        found.append(body[:length])
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]


def shape(value: object) -> object:
    """Keys in order, and types; a list by the shapes that occur in it."""
    if isinstance(value, dict):
        return [(key, shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        distinct: list[object] = []
        for item in value:
            if shape(item) not in distinct:
                distinct.append(shape(item))
        return ["list", *distinct]
    if isinstance(value, bool) or value is None:
        return str(value)
    return "number" if isinstance(value, int | float) else "string"


def lines(body: bytes) -> list[object]:
    """Each line: the shape of its JSON, or the text itself (`event:` names, end marks)."""
    read: list[object] = []
    for line in body.split(b"\n"):
        payload = line.removeprefix(b"data: ")
        try:
            read.append((line[: len(line) - len(payload)], shape(json.loads(payload))))
        except ValueError:
            read.append(line)
    return read


def parts(answer: bytes) -> tuple[bytes, set[bytes], list[list[object]]]:
    """Status line, fields (values of those that are constant), chunks as shapes."""
    head, body = answer.split(b"\r\n\r\n", 1)
    status, *fields = head.split(b"\r\n")
    named = {
        field.split(b":")[0] if field.startswith((b"Date", b"Content-Length")) else field
        for field in fields
    }
    pieces = chunks(body) if b"Transfer-Encoding: chunked" in fields else [body]
    return status, named, [lines(piece) for piece in pieces]


# what two hosts do not share: contents of a model file, and how many models are installed
FREE_KEYS = {"model_info", "tensors"}


def without_free(value: object) -> object:
    if isinstance(value, list):
        free = (isinstance(item, tuple) and item and item[0] in FREE_KEYS for item in value)
        return [without_free(item) for item, skip in zip(value, free, strict=True) if not skip]
    if isinstance(value, tuple):
        return tuple(without_free(item) for item in value)
    return value


@pytest.mark.parametrize("case", INDEX, ids=lambda case: str(case["name"]))
def test_the_answer_has_the_shape_of_the_real_one(case: dict[str, Any]) -> None:
    name = case["name"]
    real = parts((RAW / f"{name}.http").read_bytes())

    async def ours() -> bytes:
        async with simulator() as sim:
            for model in ("tiny-a", "embed-e"):
                path = "embed" if model == "embed-e" else "generate"
                warm = json.dumps({"model": model})
                if name not in ("stop-not-loaded", "generate-stream-cold"):
                    await exchange(sim, f"POST /api/{path} HTTP/1.1", warm, "localhost")
            host = "evil.example.com" if name == "foreign-host-403" else "localhost"
            body = case["request_body"]
            return await exchange(sim, case["request_line"], body, host)

    got = parts(asyncio.run(ours()))
    assert got[:2] == real[:2]
    assert without_free(got[2]) == without_free(real[2])


@pytest.mark.parametrize("depth", [2000, 9990])
def test_a_deeply_nested_field_is_no_reason_to_drop_the_connection(depth: int) -> None:
    """Go reads 10,000 levels."""

    async def story() -> None:
        async with Simulator(Config(catalogue=AT_ONCE)) as sim:
            body = b'{"model":"mistral","x":' + b"[" * depth + b"]" * depth + b"}"
            async with httpx.AsyncClient(
                base_url=sim.url, trust_env=False, timeout=PATIENCE
            ) as client:
                for path in ("/api/generate", "/api/chat", "/v1/chat/completions", "/api/show"):
                    answer = await client.post(path, content=body)
                    assert answer.status_code < 500
                deeper = b'{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
                answer = await client.post("/api/generate", content=deeper)
                assert (answer.status_code, answer.json()["error"]) == (400, "exceeded max depth")

    asyncio.run(story())


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"mistral","messages":[1]}',
        b'{"model":"mistral","messages":{}}',
        b'{"model":"mistral","prompt":"[[n=x tps=0 crash=9e99]]","keep_alive":0}',
        b'{"model":"mistral","prompt":"x","options":{"num_ctx":1e400}}',
        b'{"model":"mistral","prompt":"[[n=1]]","options":{"num_ctx":"8"}}',
        b'{"model":"mistral","prompt":"[[n=1]]","options":{"num_predict":1e300,"num_batch":[]}}',
        b'{"model":NaN}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_odd_bodies_are_answered(body: bytes) -> None:
    async def story() -> None:
        async with (
            Simulator(Config(catalogue=AT_ONCE)) as sim,
            httpx.AsyncClient(base_url=sim.url, trust_env=False, timeout=PATIENCE) as client,
        ):
            for path in ("/api/generate", "/api/chat", "/v1/chat/completions", "/v1/messages"):
                request = client.stream("POST", path, content=body)
                async with request as answer:
                    assert answer.status_code in (200, 400, 404, 500)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("line", "body", "status", "said"),
    [
        ("GET /api/status HTTP/1.1", None, 200, '"disabled":false'),
        ("GET http://localhost/api/version HTTP/1.1", None, 200, '"version"'),
        ("DELETE /api/delete HTTP/1.1", "{}", 400, 'name \\"\\" is invalid'),
        ("GET /v1/models/none HTTP/1.1", None, 404, "model 'none' not found"),
        (
            "POST /api/generate HTTP/1.1",
            '{"model":"mistral","keep_alive":1e999}',
            400,
            "cannot unmarshal number",
        ),
        (
            "POST /api/generate HTTP/1.1",
            '{"model":"mistral","options":{"use_mmap":1}}',
            500,
            'option \\"use_mmap\\" must be of type boolean',
        ),
        (
            "POST /api/generate HTTP/1.1",
            '{"model":"mistral","prompt":null,"stream":null,"keep_alive":null,"model":null}',
            200,
            '"done":true',
        ),
    ],
)
def test_requests_that_few_clients_send(
    line: str, body: str | None, status: int, said: str
) -> None:
    async def story() -> bytes:
        async with simulator() as sim:
            return await exchange(sim, line, body, "localhost")

    answer = asyncio.run(story()).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert said in answer
