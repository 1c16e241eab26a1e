# SPDX-License-Identifier: Apache-2.0
"""Starts and stops the programs that print a log."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from ollama_exporter.errors import StartError

CHUNK: Final = 64 * 1024  # bytes of a read
SETTLED: Final = 0.5  # seconds; a program that still runs then works
EXIT_TIMEOUT: Final = 2.0  # seconds
LONGEST_ERROR: Final = 300  # bytes of an error message


async def start(
    command: Sequence[str], environment: Mapping[str, str], *, one_stream: bool
) -> asyncio.subprocess.Process:
    """Start a program without input. `one_stream`: its errors join its output.

    Raises StartError.
    """
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT if one_stream else asyncio.subprocess.PIPE,
            env={"LC_ALL": "C.UTF-8", **environment},
        )
    except OSError as err:
        raise StartError(f"{command[0]}: {err.strerror}") from err


async def stop(child: asyncio.subprocess.Process) -> None:
    """Stop a program that may still run."""
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
