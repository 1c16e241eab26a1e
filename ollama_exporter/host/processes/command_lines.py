# SPDX-License-Identifier: Apache-2.0
"""Recognises Ollama's processes by their command lines. Pure.

Seen: `ollama runner [--ollama-engine] --model BLOB --port N` (0.24) and `llama-server --model BLOB
--port N …` (0.33). The discovery of GPUs starts both for a moment, without `--model`. An MLX runner
has a name instead of a blob. Nothing joins that name to a listed model, so it is left out.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from ollama_exporter.protocol.blobs import blob_of

_SERVE: Final = frozenset({"serve", "start"})  # the second is an alias of the first
_MODEL: Final = frozenset({"--model", "-model"})


def is_server(command: Sequence[str]) -> bool:
    """Return whether this is a server, or a forked child of it that has not called exec yet."""
    return len(command) > 1 and program_in(command[0]) == "ollama" and command[1] in _SERVE


def weights_in(command: Sequence[str]) -> str | None:
    """Return the weights of a runner; None: this is not a runner, or its model is not a blob."""
    for flag, value in pairwise(command):
        if flag in _MODEL:
            return blob_of(value)
    return None


def program_in(path: str) -> str:
    """Return the name of the program at a path, without the ending that it has on Windows."""
    return path.replace("\\", "/").rpartition("/")[2].lower().removesuffix(".exe")
