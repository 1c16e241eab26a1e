# SPDX-License-Identifier: Apache-2.0
"""What the error text of an answer says about the runner behind it.

The texts are no contract: substrings, without case, of the servers 0.24 to 0.33.
"""

from enum import StrEnum
from typing import Final


class Failure(StrEnum):
    """Which kind of failure an error text reports."""

    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    OTHER = "other"


# A crash's text may quote the runner's last words, and those may be "out of memory": it wins.
OUT_OF_MEMORY: Final = ("out of memory", "out-of-memory")
CRASHED: Final = (
    "model runner has unexpectedly stopped",
    "an error was encountered while running the model",
    "process no longer running",  # llama-server's and, before 0.30, the llama runner's
    "process has terminated",
    "do embedding request",  # the runner hung up on the server, which answers 400
)


def classify(text: str) -> Failure:
    """Return what an error text reports."""
    lower = text.lower()
    if any(words in lower for words in OUT_OF_MEMORY):
        return Failure.OUT_OF_MEMORY
    if any(words in lower for words in CRASHED):
        return Failure.CRASHED
    return Failure.OTHER
