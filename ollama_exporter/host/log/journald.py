# SPDX-License-Identifier: Apache-2.0
"""The journal of a unit, followed by `journalctl`: what is written from now on, and only that."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

from ollama_exporter.errors import StartError

CHUNK: Final = 64 * 1024
SETTLED: Final = 0.5  # seconds after which it works, if it still runs
LAST_WORDS: Final = 2.0  # seconds that it has to end in
LONGEST_COMPLAINT: Final = 300  # characters of what it says when it fails


async def follow(unit: str, *, program: str = "journalctl") -> AsyncGenerator[bytes, None]:
    """Yield what the unit's services write, in pieces, until journalctl ends.

    Raises StartError with journalctl's own words if it cannot, or ends by itself.
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
    assert child.stdout is not None  # noqa: S101 - it was asked for
    assert child.stderr is not None  # noqa: S101 - likewise
    complaint = asyncio.create_task(_last_words(child.stderr))
    try:
        with suppress(TimeoutError):  # one that complains does so at once, and ends
            await asyncio.wait_for(child.wait(), SETTLED)
        if child.returncode is None:
            yield b""
        while data := await child.stdout.read(CHUNK):
            yield data
        code = await child.wait()
        raise StartError(f"{program} ended with {code}: {await complaint}")
    finally:
        complaint.cancel()
        await _end(child)


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    with suppress(ProcessLookupError):
        child.terminate()
        try:
            async with asyncio.timeout(LAST_WORDS):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


async def _last_words(stream: asyncio.StreamReader) -> str:
    """Read all that is said, lest the pipe fill up; return the end of it, in one line."""
    said = b""
    while data := await stream.read(CHUNK):
        said = (said + data)[-LONGEST_COMPLAINT:]
    return " ".join(said.decode(errors="replace").split())
