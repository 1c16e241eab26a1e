# SPDX-License-Identifier: Apache-2.0
"""Finds the systemd unit under which the server runs, so that its journal can be followed.

The kernel says it: the last part of a process's control group is its unit. Every user may read it.
"""

import re
import shutil
from pathlib import Path
from typing import Final

PROGRAM: Final = "journalctl"
LONGEST: Final = 4096  # bytes
UNIT: Final = re.compile(r"[\w@.:\\-]{1,256}\.service")
MANAGER: Final = re.compile(r"user@\d{1,10}\.service")
JOURNAL: Final = "journal:"
USER_JOURNAL: Final = "user-journal:"


def source_of(cgroup: str) -> str | None:
    """Return the source to follow for a process with this `/proc/PID/cgroup`; None: no unit.

    A container's process is in a scope and not in a unit of its own.
    """
    paths = [line.split(":", 2)[2] for line in cgroup.splitlines() if line.count(":") >= 2]  # noqa: PLR2004 - hierarchy, controllers, path
    for path in paths:
        *above, last = path.split("/")
        if not UNIT.fullmatch(last) or MANAGER.fullmatch(last):
            continue
        of_user = any(MANAGER.fullmatch(part) for part in above)
        return (USER_JOURNAL if of_user else JOURNAL) + last
    return None


def journal_of(pid: int, *, root: str = "/proc") -> tuple[str | None, str]:
    """Return which source to follow for a process, if any, and why."""
    if shutil.which(PROGRAM) is None:
        return None, f"{PROGRAM} is not on PATH"
    try:
        with Path(root, str(pid), "cgroup").open("rb") as file:
            text = file.read(LONGEST).decode(errors="replace")
    except OSError:
        return None, "the control group of the server cannot be read"
    source = source_of(text)
    if source is None:
        return None, "the server runs in no systemd unit"
    return source, "the server runs under this unit"
