# SPDX-License-Identifier: Apache-2.0
"""Prometheus and Alertmanager as child processes."""

import asyncio
import ctypes
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Final

import httpx

SIGNAL_OF_PARENT: Final = 1  # PR_SET_PDEATHSIG in linux/prctl.h
START: Final = 60.0  # seconds until a start has failed
END: Final = 5.0  # seconds between SIGTERM and SIGKILL


class NotStarted(Exception):  # noqa: N818 - the name states what happened
    """A program exited or did not become ready; the message is its log."""


def free_port(wanted: int) -> int:
    """Return the wanted port of the loopback interface if it is free, else another one."""
    try:
        sock = socket.create_server(("127.0.0.1", wanted))
    except OSError:
        sock = socket.create_server(("127.0.0.1", 0))
    with sock:
        return int(sock.getsockname()[1])


@asynccontextmanager
async def running(command: Sequence[str], *, address: str, log: Path) -> AsyncIterator[None]:
    """Run a program: yield when it is ready, and end it afterwards. Raises NotStarted."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            f"--web.listen-address={address}",
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches us alone, and we shut down in order
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
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
                pass  # killed below
            finally:  # also when a second Ctrl-C ends the wait
                if process.returncode is None:
                    process.kill()
                    await process.wait()


def _end_with_parent() -> None:
    """Let the kernel end this process when its parent is killed, which can end nothing itself."""
    ctypes.CDLL(None).prctl(SIGNAL_OF_PARENT, signal.SIGTERM)


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
