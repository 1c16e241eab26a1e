# SPDX-License-Identifier: Apache-2.0
"""Asserts that time grows no faster than the input, for bytes that somebody else chooses."""

import gc
import time
from collections.abc import Callable
from typing import Final

SIZES: Final = (
    1 << 12,
    1 << 14,
    1 << 16,
    1 << 18,
    1 << 20,
)  # bytes, each four times the one before
SLOWEST: Final = 12.0  # times the step before: linear is 4, quadratic 16
NOISE: Final = 0.05  # seconds below which a step proves nothing


def assert_linear(work: Callable[[bytes], object], make: Callable[[int], bytes]) -> None:
    """Call `work` on inputs of 4 KB to 1 MB; quadratic work fails at the first step that shows it.

    The clock is this thread's processor time, so a busy machine does not count.
    """
    before = 0.0
    for size in SIZES:
        body = make(size)
        took, most = _seconds(work, body), SLOWEST * max(before, NOISE / 4)
        if before and took > NOISE and took >= most:
            took = min(took, _seconds(work, body))  # the machine may have been at something else
            assert took < most, f"{size} bytes took {took:.2f} s"
        before = took


def _seconds(work: Callable[[bytes], object], body: bytes) -> float:
    """Return the processor time, without the garbage collector: it goes by all that lives here."""
    gc.disable()
    try:
        begin = time.thread_time()
        work(body)
        return time.thread_time() - begin
    finally:
        gc.enable()
