# SPDX-License-Identifier: Apache-2.0
"""Follows the journal of a unit with `journalctl`, from now on."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import suppress

from ollama_exporter.errors import StartError
from ollama_exporter.host.log import child_process
from ollama_exporter.host.log.child_process import CHUNK, LONGEST_ERROR, SETTLED


async def follow_unit(
    unit: str, *, of_user: bool = False, program: str = "journalctl"
) -> AsyncGenerator[bytes, None]:
    """Yield the unit's output in pieces. `of_user`: a unit of a user's own manager.

    Raises StartError with journalctl's error message when journalctl exits.
    """
    which = f"--user-unit={unit}" if of_user else f"--unit={unit}"
    command = [program, "--follow", "--lines=0", "--output=cat", "--no-pager", which]
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    child = await child_process.start(command, environment, one_stream=False)
    assert child.stdout is not None  # noqa: S101 - it is a pipe
    assert child.stderr is not None  # noqa: S101 - it is a pipe
    error = asyncio.create_task(_error_message(child.stderr))
    try:
        with suppress(TimeoutError):  # a failing journalctl exits at once
            async with asyncio.timeout(SETTLED):
                await child.wait()
        if child.returncode is None:
            yield b""
        while data := await child.stdout.read(CHUNK):
            yield data
        code = await child.wait()
        raise StartError(f"{program} exited with status {code}: {await error}")
    finally:
        error.cancel()
        await child_process.stop(child)


async def _error_message(stream: asyncio.StreamReader) -> str:
    """Read all of the stream, so that the pipe never fills; return its end as one line."""
    text = b""
    while data := await stream.read(CHUNK):
        text = (text + data)[-LONGEST_ERROR:]
    return " ".join(text.decode(errors="replace").split())
