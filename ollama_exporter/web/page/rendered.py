# SPDX-License-Identifier: Apache-2.0
"""A body that many ask for: compressed once, if anybody wants that."""

import gzip
from dataclasses import dataclass, field
from typing import Final

from ollama_exporter.metrics.kept_gzip import GZIP_LEVEL

SMALL: Final = 1024  # bytes: compressing less saves nothing


@dataclass(slots=True, eq=False)
class Rendered:
    """A body as it is, and compressed."""

    plain: bytes
    _gzipped: bytes | None = field(default=None, init=False)

    def gzipped(self) -> bytes | None:
        """Return it compressed; None: it is too small for that."""
        if len(self.plain) <= SMALL:
            return None
        if self._gzipped is None:
            self._gzipped = gzip.compress(self.plain, compresslevel=GZIP_LEVEL, mtime=0)
        return self._gzipped
