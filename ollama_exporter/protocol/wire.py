# SPDX-License-Identifier: Apache-2.0
"""Typed, tolerant decoding of the server's answers.

Unknown fields never break a poll, absent ones get an honest default; nanoseconds become seconds
here and nowhere else.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunningModel:
    """One entry of `/api/ps`.

    `expires_at` is Unix seconds on the *server's* clock, `math.inf` for never (year > 2200).
    Sizes are bytes, `context` tokens per slot (None: older servers do not say).
    """

    name: str  # normalised: with its tag
    digest: str  # 64 hex characters, of the manifest
    expires_at: float
    size: int = 0
    size_vram: int = 0
    context: int | None = None
    family: str = ""
    format: str = ""
    parameter_size: str = ""
    quantization: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What tells two entries apart: one name may be listed with two digests."""
        return (self.name, self.digest)
