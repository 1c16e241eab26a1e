# SPDX-License-Identifier: Apache-2.0
"""How quantities are written for people: moments, times, sizes, shares."""

import math
from typing import Final

GIB: Final = 1 << 30
MIB: Final = 1 << 20
MINUTE: Final = 60
HOUR: Final = 3600
TENTH_OF_GB: Final = 1e8  # bytes


def moment(seconds: float) -> str:
    """Write seconds since the start as minutes, seconds and tenths: 1:02.5."""
    tenths = max(0, round(seconds * 10))
    return f"{tenths // 600}:{tenths % 600 // 10:02d}.{tenths % 10}"


def countdown(seconds: float) -> str:
    """Write what is left, to the second: 1:32."""
    left = max(0, math.ceil(seconds))
    if left >= HOUR:
        return f"{left // HOUR}:{left // MINUTE % 60:02d}:{left % 60:02d}"
    return f"{left // MINUTE}:{left % 60:02d}"


def remaining(seconds: float) -> str:
    """Write what is left of a keep-alive. A past deadline is normal: the model is busy."""
    if math.isinf(seconds):
        return "never"
    if seconds < 0:
        return "in use"
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds // MINUTE:.0f} min {seconds % MINUTE:.0f} s"


def ago(seconds: float) -> str:
    """Write how long ago something was."""
    seconds = max(0.0, seconds)
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h"


def memory(size: int) -> str:
    """Write bytes as GPUs are sold: 5.0 GiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def gigabytes(size: float) -> str:
    """Write bytes as Ollama does: 5.4 GB."""
    return f"{size / 1e9:.1f} GB" if size >= TENTH_OF_GB else f"{size / 1e6:.0f} MB"


def gpu_share(size: int | None, size_vram: int | None) -> str:
    """Write how much of a model is on the GPU; empty: not known."""
    return "" if not size or size_vram is None else f"{size_vram / size:.0%}"
