# SPDX-License-Identifier: Apache-2.0
"""What systemd says of a unit."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.patience import PATIENCE


def assert_no_faults(
    analyze: str, unit: Path, *options: str, env: Mapping[str, str] | None = None
) -> None:
    """Let `systemd-analyze verify` read a unit. What it says of other units does not count."""
    done = subprocess.run(
        [analyze, *options, "verify", "--man=no", unit],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    about = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, about) == (0, []), done.stderr
