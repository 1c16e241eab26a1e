# SPDX-License-Identifier: Apache-2.0
"""Classifies an answer's error text by what happened to the runner.

The texts are not a contract: these are substrings, in any case, of Ollama 0.1 to 0.33.
"""

from enum import StrEnum
from typing import Final


class Failure(StrEnum):
    """What an error text reports."""

    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    OTHER = "other"


# These win: a crash's text may quote the runner's last line, and that names the cause.
OUT_OF_MEMORY: Final = ("out of memory", "out-of-memory")
CRASHED: Final = (
    "model runner has unexpectedly stopped",
    "an error was encountered while running the model",
    "an unknown error was encountered while running the model",  # 0.1 to 0.5
    "post predict: ",  # 0.1 to 0.11: the connection to the runner broke
    "process no longer running",  # llama-server's and, before 0.30, the llama runner's
    "process has terminated",
    "do embedding request",  # the runner closed the connection; the server answers 400
)
LEFT: Final = "context canceled"  # the client closed the connection


def classify(text: str) -> Failure:
    """Classify an error text."""
    lower = text.lower()
    if any(words in lower for words in OUT_OF_MEMORY):
        return Failure.OUT_OF_MEMORY
    if any(words in lower for words in CRASHED) and LEFT not in lower:
        return Failure.CRASHED
    return Failure.OTHER
