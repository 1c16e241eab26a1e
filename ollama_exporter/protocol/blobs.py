# SPDX-License-Identifier: Apache-2.0
"""Weights: the blob that a model's runner is started with, named `sha256-HEX`.

It is not the digest of `/api/ps`, which is the manifest's; `/api/show` joins the two.
"""

import re
from typing import Final

_BLOB: Final = re.compile(r"(?:^|[/\\])sha256[-:]([0-9a-f]{64})$")
_FROM: Final = "FROM "


def blob_of(path: str) -> str | None:
    """Return the weights that a path names, on any system; None: it is no blob's."""
    match = _BLOB.search(path)
    return None if match is None else f"sha256-{match[1]}"


def weights_of(modelfile: str) -> str | None:
    """Return the weights of a model file as the server writes it; None: it names no blob.

    Its first command is `FROM` and the path of the weights; adapters and projectors come after it.
    """
    for line in modelfile.splitlines():
        if line.startswith(_FROM):
            return blob_of(line.removeprefix(_FROM).strip())
    return None
