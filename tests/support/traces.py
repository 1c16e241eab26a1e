# SPDX-License-Identifier: Apache-2.0
"""What coverage wrote: one file for each process that it traced."""

from pathlib import Path

from coverage import CoverageData
from coverage.exceptions import CoverageException


def remove_broken(data_file: Path) -> list[str]:
    """Remove what processes left that were killed while they wrote; return the names.

    `data_file`: the one into which all are combined.
    """
    broken = []
    for file in data_file.parent.glob(f"{data_file.name}.*"):
        data = CoverageData(str(file))
        try:
            data.read()
        except CoverageException:
            broken.append(file.name)
        finally:
            data.close(force=True)
        if broken[-1:] == [file.name]:
            file.unlink()
    return broken
