# SPDX-License-Identifier: Apache-2.0
"""Section `keep-warm`: models that should be resident, always or by a schedule."""

from typing import Final

from msgspec import Struct

from ollama_exporter.actions.keep_warm.weekly_schedule import Schedule, schedule
from ollama_exporter.config import mapping, parsers
from ollama_exporter.errors import ConfigError
from ollama_exporter.protocol.model_names import match_key, normalise

KEY: Final = "keep-warm"
KEEP_ALIVE: Final = 1800.0
GRACE: Final = 1800.0
MOST_PER_HOUR: Final = 6
LOAD_TIMEOUT: Final = 600.0


class WarmModel(Struct, frozen=True):
    """A model of the section. `schedule` None: always; `num_ctx` None: as clients request."""

    model: str  # normalised
    keep_alive: float = KEEP_ALIVE  # seconds, inf forever
    schedule: Schedule | None = None
    num_ctx: int | None = None

    def is_expected(self, at: float) -> bool:
        """Return whether the model should be resident at a time, in Unix seconds."""
        return self.schedule is None or self.schedule.contains(at)


class KeepWarm(Struct, frozen=True):
    """The section. Durations in seconds. Earlier models go before later ones."""

    models: tuple[WarmModel, ...] = ()
    grace: float = GRACE  # after a stop, the model is not loaded for this time
    most_per_hour: int = MOST_PER_HOUR  # loads of one model
    load_timeout: float = LOAD_TIMEOUT  # for one load
    dry_run: bool = False

    def expected(self, at: float) -> tuple[str, ...]:
        """Return the models that should be resident at a time, in Unix seconds."""
        return tuple(warm.model for warm in self.models if warm.is_expected(at))


OFF: Final = KeepWarm()


def keep_warm(name: str, value: object) -> KeepWarm:
    """Parse the section. Raises ConfigError."""
    parsed = mapping.section(
        name,
        value,
        {
            "models": _models,
            "grace": parsers.duration,
            "most-per-hour": parsers.count(1),
            "load-timeout": parsers.duration,
            "dry-run": parsers.flag,
        },
    )
    return KeepWarm(**parsed)


def _models(name: str, value: object) -> tuple[WarmModel, ...]:
    models: dict[str, WarmModel] = {}  # by match key
    for key, item in mapping.entries(name, value).items():
        model = normalise(key)
        if match_key(key) in models:
            raise ConfigError(
                name, key, f"has another entry as well: Ollama takes both names for {model}"
            )
        parsed = mapping.section(
            f"{name}.{key}",
            item,
            {
                "schedule": schedule,
                "keep-alive": mapping.positive_keep_alive,
                "num-ctx": mapping.context,
            },
        )
        models[match_key(key)] = WarmModel(model, **parsed)
    return tuple(models.values())
