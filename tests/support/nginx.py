# SPDX-License-Identifier: Apache-2.0
"""nginx as a reverse proxy of several servers, each behind a Unix socket of its own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.support.patience import PATIENCE
from tests.support.programs import program
from tests.support.rawserver import Link

TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
CONFIGURATION: Final = """
daemon off;
master_process off;
pid {here}/pid;
error_log {here}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    {temporary}
    server_tokens off;
    ignore_invalid_headers off;
    underscores_in_headers on;
    merge_slashes off;
    client_max_body_size 0;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffering off;
    proxy_request_buffering off;
    {servers}
}}
"""
SERVER: Final = "server {{ listen unix:{path}; location / {{ proxy_pass {url}; }} }}"


@asynccontextmanager
async def nginx(here: Path, urls: Sequence[str]) -> AsyncIterator[list[Path]]:
    """Run one whose files are in `here`. Yield the sockets, in the order of the servers' URLs."""
    sockets = [here / f"{number}.sock" for number in range(len(urls))]
    servers = [SERVER.format(path=p, url=u) for p, u in zip(sockets, urls, strict=True)]
    temporary = " ".join(f"{name}_temp_path {here}/{name};" for name in TEMPORARY)
    file = here / "nginx.conf"
    file.write_text(
        CONFIGURATION.format(here=here, temporary=temporary, servers="\n".join(servers))
    )
    process = await asyncio.create_subprocess_exec(
        *(program("nginx"), "-c", str(file), "-p", str(here), "-e", str(here / "error.log"))
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while not all(path.exists() for path in sockets):
                assert process.returncode is None, (here / "error.log").read_text()
                await asyncio.sleep(0.01)
        yield sockets
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def unix_caller(path: Path) -> AsyncIterator[Link]:
    """Connect to a Unix socket; at the end the connection is dropped."""
    loop = asyncio.get_running_loop()
    _, link = await loop.create_unix_connection(Link, str(path))
    try:
        yield link
    finally:
        link.transport.abort()
