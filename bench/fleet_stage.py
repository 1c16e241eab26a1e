# SPDX-License-Identifier: Apache-2.0
"""Thousands of servers in one cheap process: one port on all of 127.0.0.0/8.

Each address lists five models that never expire. Addresses from 127.200.0.0 take
requests and never answer. Prints its port, and ends when its standard input does.
"""

import asyncio
import functools
import json
import sys
from email.utils import formatdate
from hashlib import sha256
from typing import Any, Final, cast

import uvloop

MODELS: Final = (
    "mistral:latest",
    "llama3.2:latest",
    "qwen2.5:7b",
    "nomic-embed-text:latest",
    "gemma2:27b",
)
HANGING: Final = "127.200."
NEVER: Final = "2318-03-01T12:00:00.123456789Z"


def address_of(number: int, *, hanging: bool = False) -> str:
    """Return the address of a server by its number."""
    return f"127.{200 if hanging else 1}.{number // 250}.{number % 250 + 1}"


@functools.cache
def listing() -> bytes:
    models = [
        {
            "name": name,
            "model": name,
            "size": 4 << 30,
            "digest": sha256(name.encode()).hexdigest(),
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": "llama",
                "families": ["llama"],
                "parameter_size": "7.2B",
                "quantization_level": "Q4_0",
            },
            "expires_at": NEVER,
            "size_vram": 4 << 30,
            "context_length": 4096,
        }
        for name in MODELS
    ]
    return json.dumps({"models": models}, separators=(",", ":")).encode()


def body_of(path: bytes) -> bytes:
    if path == b"/api/ps":
        return listing()
    if path == b"/api/version":
        return b'{"version":"0.33.0"}'
    return listing() if path == b"/api/tags" else b"{}"


class Server(asyncio.Protocol):
    """Answers whole requests, which is how clients of a bench send them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note whether this address answers."""
        self.transport = cast("asyncio.Transport", transport)
        self.hangs = str(transport.get_extra_info("sockname")[0]).startswith(HANGING)

    def data_received(self, data: bytes) -> None:
        """Answer."""
        if self.hangs:
            return
        body = body_of(data.split(b" ", 2)[1])
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nDate: %b\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (formatdate(usegmt=True).encode(), len(body), body)
        )


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "0.0.0.0", 0, backlog=4096)  # noqa: S104 - 127/8 is meant
    print(cast("Any", server.sockets[0]).getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    uvloop.run(main())
