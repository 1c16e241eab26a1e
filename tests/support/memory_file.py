# SPDX-License-Identifier: Apache-2.0
"""A state file that is on no disk."""

import json
from pathlib import Path

from ollama_exporter.state_file import SavedState, StateFile
from tests.support.virtual_ollama import SETTINGS


class MemoryFile(StateFile):
    """Keeps the state as text. `dead`: the exporter is killed and writes no more."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"), url=SETTINGS.ollama_url)
        self._text, self.dead = "", False

    def write(self, state: SavedState) -> None:
        """Keep a state."""
        if not self.dead:
            self._text = "".join(state.pieces())

    def read(self) -> SavedState | None:
        """Return the state that was kept last."""
        return SavedState.of(json.loads(self._text)) if self._text else None
