# SPDX-License-Identifier: Apache-2.0
"""The settings in force, and what a reload may change of them."""

from dataclasses import dataclass

from ollama_exporter.config.schema import ROWS, Settings
from ollama_exporter.config.setting import written
from ollama_exporter.errors import RestartNeededError
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.residency.poll_schedule import JITTER, Cadence


@dataclass(slots=True)
class CurrentSettings:
    """The settings in force; a reload replaces them as a whole."""

    settings: Settings
    spread: float = JITTER  # of polls after a failed one

    def cadence(self) -> Cadence:
        """Return how often to poll."""
        return Cadence(self.settings.poll_interval, self.settings.poll_aligned, self.spread)

    def expected(self, at: float) -> tuple[str, ...]:
        """Return the models that should be resident at a moment, Unix seconds."""
        settings = self.settings
        named = (normalise(name) for name in settings.expected_models)
        return tuple(dict.fromkeys([*named, *settings.keep_warm.expected(at)]))

    def replace(self, settings: Settings) -> tuple[str, ...]:
        """Put new settings in force: all of them or none. Return the names of those that changed.

        Raises RestartNeededError.
        """
        if self.settings.has_fleet != settings.has_fleet:
            before, after = ("several" if x.has_fleet else "one" for x in (self.settings, settings))
            raise RestartNeededError("targets", f"{before} server(s)", f"{after} server(s)")
        changed = []
        for row in ROWS.values():
            before, after = getattr(self.settings, row.field), getattr(settings, row.field)
            if before == after:
                continue
            if not row.reloadable:
                raise RestartNeededError(row.name, written(before), written(after))
            changed.append(row.name)
        self.settings = settings
        return tuple(changed)
