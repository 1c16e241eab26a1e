# SPDX-License-Identifier: Apache-2.0
"""The weights blob that a runner is started with, named `sha256-HEX`.

The digest in `/api/ps` is the manifest's, not the blob's; `/api/show` relates the two.
"""

import re
from typing import Final

_BLOB: Final = re.compile(r"(?:^|[/\\])sha256[-:]([0-9a-f]{64})$")
_FROM: Final = "FROM "


def blob_of(path: str) -> str | None:
    """Return the blob that a path of any system names, or None if it names none."""
    match = _BLOB.search(path)
    return None if match is None else f"sha256-{match[1]}"


def weights_of(modelfile: str) -> str | None:
    """Return the weights blob of a Modelfile as the server writes it, or None if it names none.

    The first `FROM` command has the path of the weights. Those of adapters and projectors follow.
    """
    for line in modelfile.splitlines():
        if line.startswith(_FROM):
            return blob_of(line.removeprefix(_FROM).strip())
    return None
