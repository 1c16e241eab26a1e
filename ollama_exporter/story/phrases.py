# SPDX-License-Identifier: Apache-2.0
"""Events in a few words. Pure."""

from typing import Final

from ollama_exporter.foreign_text import clean
from ollama_exporter.protocol.model_names import MAX_LENGTH
from ollama_exporter.residency.events import Reason, Unloaded

WORDS: Final = {
    Reason.EXPIRED: "keep-alive ran out",
    Reason.STOPPED: "stopped",
    Reason.EVICTED: "evicted",
    Reason.OPTIONS_CHANGED: "reloaded with other options",
    Reason.REPLACED: "replaced by newer weights",
    Reason.CRASHED: "crashed",
    Reason.OUT_OF_MEMORY: "out of memory",
    Reason.SERVER_RESTARTED: "server restarted",
    Reason.UNKNOWN: "reason unknown",
}


def shown(name: str) -> str:
    """Return a model's name so that it is safe to print."""
    return clean(name, limit=MAX_LENGTH)


def unload_in_words(event: Unloaded) -> str:
    """Return why a model left, in a few words."""
    words = WORDS[event.reason]
    return words if event.by is None else f"{words} by {shown(event.by)}"
