# SPDX-License-Identifier: Apache-2.0
"""The values of the label `class`: which keep_alive and which options a request carried. Pure."""

import math
from typing import Final

from ollama_exporter.protocol.request_body import RequestFields

KEEP_ALIVES: Final = ("absent", "refused", "zero", "finite", "never")
OPTIONS: Final = ("absent", "num_ctx", "other")


def keep_alive_class(fields: RequestFields) -> str:
    """Return the kind of keep_alive that a request carried."""
    if fields.has_rejected_keep_alive:
        return "refused"
    if fields.keep_alive is None:
        return "absent"
    if fields.keep_alive == 0:
        return "zero"
    return "never" if fields.keep_alive == math.inf else "finite"


def options_class(fields: RequestFields) -> str:
    """Return which options a request carried that can force a reload."""
    if not fields.has_reload_option:
        return "absent"
    return "other" if fields.num_ctx is None else "num_ctx"
