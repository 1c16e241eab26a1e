# SPDX-License-Identifier: Apache-2.0
"""Follows the log of a container with `docker logs` or `podman logs`, from now on."""

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Final

from ollama_exporter.errors import StartError
from ollama_exporter.host.log import child_process
from ollama_exporter.host.log.child_process import CHUNK, LONGEST_ERROR, SETTLED

PROGRAMS: Final = ("docker", "podman")
PASSED: Final = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR")
OWN_MESSAGES: Final = ("error", "cannot connect", "permission denied", "got permission denied")


async def follow_container(
    program: str, container: str, *, since: float | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield the output of a container in pieces.

    `since`: Unix seconds; None: from now on. Raises StartError when the program exits.
    """
    begin = "--tail=0" if since is None else f"--since={since:.3f}"
    environment = {name: os.environ[name] for name in PASSED if name in os.environ}
    command = [program, "logs", "--follow", begin, container]
    # The server logs to stderr.
    child = await child_process.start(command, environment, one_stream=True)
    assert child.stdout is not None  # noqa: S101 - it is a pipe
    try:
        first = b""
        try:
            async with asyncio.timeout(SETTLED):  # a failing program exits at once
                while len(first) < CHUNK and (data := await child.stdout.read(CHUNK)):
                    first += data
        except TimeoutError:
            pass
        else:
            if len(first) < CHUNK:
                raise StartError(f"{program} logs exited: {_error_message(first)}")
        yield first
        while data := await child.stdout.read(CHUNK):
            yield data
        raise StartError(f"{program} logs exited with status {await child.wait()}")
    finally:
        await child_process.stop(child)


def _error_message(output: bytes) -> str:
    """Return the program's own message. A line of the container may be private."""
    line = output[:LONGEST_ERROR].decode(errors="replace").strip().split("\n")[-1]
    return line if line.lower().startswith(OWN_MESSAGES) else "the container has stopped"
