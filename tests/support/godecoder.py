# SPDX-License-Identifier: Apache-2.0
"""Request bodies and what the server's decoder, Go's, finds in them (tests/data/go_decoder)."""

import base64
import json
import math
from dataclasses import dataclass
from typing import Final

from tests.support.paths import DATA

FILE: Final = DATA / "go_decoder" / "bodies.jsonl"
FOR_EVER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Decoded:
    """The fields of a request as the server has them. `keep_alive` in seconds."""

    model: str | None
    keep_alive: float | None
    num_ctx: int | None
    is_empty: bool
    stream: bool | None


def decoded_bodies() -> list[tuple[bytes, Decoded | None]]:
    """Return bodies with what the server decodes; None: it answers 400."""
    return [_row(json.loads(line)) for line in FILE.read_text(encoding="utf-8").splitlines()]


def _row(row: dict[str, object]) -> tuple[bytes, Decoded | None]:
    text, server = row.get("body"), row["server"]
    body = str(text).encode() if text is not None else base64.b64decode(str(row["base64"]))
    if not isinstance(server, dict) or server.get("num_ctx") == "rejected":
        return body, None
    kept, context = server.get("keep_alive"), server.get("num_ctx", 0)
    seconds = None if kept is None else math.inf if kept == FOR_EVER else max(0, kept) / 1e9
    return body, Decoded(
        server["model"] or None,
        seconds,
        context if context > 0 else None,
        server["empty"],
        server.get("stream"),
    )
