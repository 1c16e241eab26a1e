# SPDX-License-Identifier: Apache-2.0
"""What a runner's command line says of its port and its settings. Pure.

Seen of Ollama 0.33: `llama-server --model BLOB --port 33397 --host 127.0.0.1 --no-webui --offline
-c 32768 -np 2 … --flash-attn auto -b 1024 -ub 1024 --context-shift --keep 4`. `-c` is the number of
tokens of all slots together.
"""

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from ollama_exporter.host.processes.command_lines import program_in

LOOPBACK: Final = "127.0.0.1"
LONGEST_VALUE: Final = 32  # characters of a value that becomes a label
WRAPPERS: Final = 3  # words in which the program stands: an interpreter or loader may come first
_PORTS: Final = range(1, 65536)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.+-]+")
_DIGITS: Final = re.compile(r"[0-9]{1,9}")
_DRAFTS: Final = frozenset({"-md", "--model-draft", "--spec-type", "--draft-max"})


class RunnerCommand(Struct, frozen=True):
    """The settings of one llama-server; empty: the command line does not say."""

    port: int
    slots: int | None = None  # -np
    context: int | None = None  # -c: tokens of all slots together
    kv_cache_type: str = "f16"  # llama.cpp's default; `K/V` if the two differ
    flash_attention: str = ""
    batch: str = ""
    gpu_layers: str = ""
    context_shift: bool = False
    speculative: bool = False


def runner_command(command: Sequence[str]) -> RunnerCommand | None:
    """Return what a command line says; None: not a llama-server that listens on 127.0.0.1.

    Whoever may start a child of the server may write anything there. A value that is not plain is
    left out.
    """
    if not any(program_in(word) == "llama-server" for word in command[:WRAPPERS]):
        return None
    port = _number(_value(command, "--port"))
    if port is None or port not in _PORTS or _value(command, "--host") not in ("", LOOPBACK):
        return None
    key = _plain(command, "-ctk", "--cache-type-k") or "f16"
    value = _plain(command, "-ctv", "--cache-type-v") or "f16"
    return RunnerCommand(
        port,
        _number(_value(command, "-np", "--parallel")),
        _number(_value(command, "-c", "--ctx-size")),
        key if key == value else f"{key}/{value}",
        _plain(command, "-fa", "--flash-attn"),
        _plain(command, "-b", "--batch-size"),
        _plain(command, "-ngl", "--gpu-layers", "--n-gpu-layers"),
        "--context-shift" in command,
        not _DRAFTS.isdisjoint(command),
    )


def _value(command: Sequence[str], *flags: str) -> str:
    """Return what follows the last of these flags, as llama.cpp reads it."""
    found = ""
    for place, word in enumerate(command[:-1]):
        if word in flags:
            found = command[place + 1]
    return found


def _plain(command: Sequence[str], *flags: str) -> str:
    value = _value(command, *flags)
    return value if len(value) <= LONGEST_VALUE and _PLAIN.fullmatch(value) else ""


def _number(text: str) -> int | None:
    return int(text) if _DIGITS.fullmatch(text) else None
