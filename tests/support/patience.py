# SPDX-License-Identifier: Apache-2.0
"""How long tests wait for something that must happen."""

from typing import Final

# Seconds. Only a failing test waits that long: it catches hangs and does not measure, so a busy
# machine must never reach it. Pytest's own limit of a test is longer still.
PATIENCE: Final = 90.0
