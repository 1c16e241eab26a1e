# SPDX-License-Identifier: Apache-2.0
"""The settings in force, and what of them a reload may change."""

from dataclasses import dataclass, fields
from typing import Final

from ollama_exporter.config.load import Settings
from ollama_exporter.errors import ConfigError
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.residency.poll_schedule import Cadence

# A reload changes these; the rest is built in, and needs a restart.
RELOADABLE: Final = frozenset(
    {
        *("poll_interval", "poll_aligned", "max_requests", "enable_lifecycle"),
        *("log_level", "log_format", "keep_warm", "defaults", "autopilot"),
    }
)


@dataclass(slots=True)
class CurrentSettings:
    """The settings in force; a reload replaces them whole."""

    settings: Settings

    def cadence(self) -> Cadence:
        """Return how often to poll."""
        return Cadence(self.settings.poll_interval, self.settings.poll_aligned)

    def expected(self, at: float) -> tuple[str, ...]:
        """Return who should be resident at a moment, Unix seconds."""
        settings = self.settings
        named = (normalise(name) for name in settings.expected_models)
        return tuple(dict.fromkeys([*named, *settings.keep_warm.expected(at)]))

    def replace(self, settings: Settings) -> None:
        """Put others in force: all of them or none. Raises ConfigError."""
        for field in fields(Settings):
            value = getattr(settings, field.name)
            changed = value != getattr(self.settings, field.name)
            if changed and field.name not in RELOADABLE:
                raise ConfigError(field.name, value, "a change of it needs a restart")
        self.settings = settings
