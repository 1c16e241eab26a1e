# SPDX-License-Identifier: Apache-2.0
"""What the actions of one process leave to the next."""

from msgspec import Struct, field

from ollama_exporter.actions.keep_warm.saved_history import SavedKeepWarm
from ollama_exporter.actions.saved_options import SavedOptions


class SavedActions(Struct, frozen=True):
    """The histories of keep-warm, and the options that clients request."""

    keep_warm: SavedKeepWarm = field(default_factory=SavedKeepWarm)
    options: SavedOptions = field(default_factory=SavedOptions)
