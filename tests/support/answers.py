# SPDX-License-Identifier: Apache-2.0
"""Raw answers of a real server, as tests/data/http keeps them."""

import json
from dataclasses import dataclass
from typing import Final

from ollama_exporter.protocol.routes import Route, route_of
from tests.support.paths import DATA

FOLDER: Final = DATA / "http"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request and its answer; `chunks`: the body as it was framed."""

    name: str
    route: Route
    request_body: bytes
    status: int
    fields: dict[str, str]
    chunks: tuple[bytes, ...]

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)


def recorded() -> dict[str, Recorded]:
    """Read all of them, by name."""
    index = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))
    return {case["name"]: _read(case) for case in index}


def body_of(name: str) -> bytes:
    """Return the body of one of them."""
    return recorded()[name].body


def _read(case: dict[str, str]) -> Recorded:
    raw = (FOLDER / f"{case['name']}.http").read_bytes()
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    method, path, _ = case["request_line"].split()
    chunks = _chunks(body) if fields.get("transfer-encoding") == "chunked" else (body,)
    asked = (case.get("request_body") or "").encode()
    return Recorded(
        case["name"], route_of(method, path), asked, int(first.split()[1]), fields, chunks
    )


def _chunks(body: bytes) -> tuple[bytes, ...]:
    chunks: list[bytes] = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return tuple(chunks)
        chunks.append(body[:length])
        body = body[length + 2 :]
