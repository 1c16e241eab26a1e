# SPDX-License-Identifier: Apache-2.0
"""How much of a model its runner has read so far. Pure."""

from ollama_exporter.host.processes.reader import Usage


def load_progress(used: Usage, size: int) -> float:
    """Return the share of `size` bytes of weights that a loading runner has read, at most 1.

    Without mmap it reads them, which only its own user and root can see; with mmap they become
    resident. Where neither shows, as of a load to a GPU under another user, the share stays low.
    """
    return min(1.0, max(used.read, used.resident) / size) if size > 0 else 0.0
