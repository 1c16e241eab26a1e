# SPDX-License-Identifier: Apache-2.0
"""Prometheus and Alertmanager as processes: started, waited for, ended."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Final

import httpx

START: Final = 20.0  # seconds; only a failing start waits that long
END: Final = 5.0  # seconds between SIGTERM and SIGKILL


class NotStarted(Exception):  # noqa: N818 - says what happened
    """A program ended or did not become ready; carries what it logged."""


def free_port(wanted: int = 0) -> int:
    """Return that port of the loopback interface if it is free now, else another one."""
    try:
        sock = socket.create_server(("127.0.0.1", wanted))
    except OSError:
        sock = socket.create_server(("127.0.0.1", 0))
    with sock:
        return int(sock.getsockname()[1])


@asynccontextmanager
async def running(command: Sequence[str], *, address: str, log: Path) -> AsyncIterator[None]:
    """Run a program until its `/-/ready` says so; whatever happens, it is gone afterwards.

    Raises NotStarted.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            f"--web.listen-address={address}",
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is ours to pass on, in order
        )
    try:
        await _ready(process, f"http://{address}/-/ready", log)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), END)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _ready(process: asyncio.subprocess.Process, url: str, log: Path) -> None:
    end = monotonic() + START
    async with httpx.AsyncClient(trust_env=False, timeout=START) as http:
        while True:
            if process.returncode is not None or monotonic() > end:
                raise NotStarted(await asyncio.to_thread(log.read_text, encoding="utf-8"))
            try:
                if (await http.get(url)).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            await asyncio.sleep(0.05)
