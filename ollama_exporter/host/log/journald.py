# SPDX-License-Identifier: Apache-2.0
"""Follows the journal of a unit with `journalctl`, from now on."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

from ollama_exporter.errors import StartError

CHUNK: Final = 64 * 1024
SETTLED: Final = 0.5  # seconds; a journalctl that still runs then works
EXIT_TIMEOUT: Final = 2.0  # seconds
LONGEST_ERROR: Final = 300  # bytes of its error message


async def follow(unit: str, *, program: str = "journalctl") -> AsyncGenerator[bytes, None]:
    """Yield the unit's output in pieces.

    Raises StartError with journalctl's error message when journalctl exits.
    """
    command = [program, "--follow", "--lines=0", "--output=cat", "--no-pager", f"--unit={unit}"]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    try:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    except OSError as err:
        raise StartError(f"{program}: {err.strerror}") from err
    assert child.stdout is not None  # noqa: S101 - stdout=PIPE
    assert child.stderr is not None  # noqa: S101 - stderr=PIPE
    error = asyncio.create_task(_error_message(child.stderr))
    try:
        with suppress(TimeoutError):  # a failing journalctl exits at once
            await asyncio.wait_for(child.wait(), SETTLED)
        if child.returncode is None:
            yield b""
        while data := await child.stdout.read(CHUNK):
            yield data
        code = await child.wait()
        raise StartError(f"{program} exited with status {code}: {await error}")
    finally:
        error.cancel()
        await _stop(child)


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    with suppress(ProcessLookupError):
        child.terminate()
        try:
            async with asyncio.timeout(EXIT_TIMEOUT):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


async def _error_message(stream: asyncio.StreamReader) -> str:
    """Read all of the stream, so that the pipe never fills; return its end as one line."""
    text = b""
    while data := await stream.read(CHUNK):
        text = (text + data)[-LONGEST_ERROR:]
    return " ".join(text.decode(errors="replace").split())
