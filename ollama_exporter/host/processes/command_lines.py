# SPDX-License-Identifier: Apache-2.0
"""What the command lines of Ollama's processes say. Pure.

Seen: `ollama runner [--ollama-engine] --model BLOB --port N` (0.24) and `llama-server --model BLOB
--port N …` (0.33). Looking for GPUs spawns both without `--model` for a moment. A runner of MLX
carries a name instead of a blob: nothing joins it to what is listed, so it is left out.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from ollama_exporter.protocol.blobs import blob_of

_SERVE: Final = frozenset({"serve", "start"})  # the second is an alias of the first
_MODEL: Final = frozenset({"--model", "-model"})


def is_server(command: Sequence[str]) -> bool:
    """Tell whether this is an Ollama server, or a child of it that has not become a runner yet."""
    return len(command) > 1 and _program(command[0]) == "ollama" and command[1] in _SERVE


def weights_in(command: Sequence[str]) -> str | None:
    """Return the weights that a runner was started with; None: it is none, or has no blob."""
    for flag, value in pairwise(command):
        if flag in _MODEL:
            return blob_of(value)
    return None


def _program(path: str) -> str:
    return re.split(r"[/\\]", path)[-1].lower().removesuffix(".exe")
