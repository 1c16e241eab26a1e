# SPDX-License-Identifier: Apache-2.0
"""Section `keep-warm`: models that the operator expects to be resident, always or by a schedule."""

from dataclasses import dataclass
from typing import Final

from ollama_exporter.actions.keep_warm.weekly_schedule import Schedule, schedule
from ollama_exporter.config import mapping, parsers
from ollama_exporter.errors import ConfigError
from ollama_exporter.protocol.model_names import normalise

KEY: Final = "keep-warm"
KEEP_ALIVE: Final = 1800.0
GRACE: Final = 1800.0
MOST_PER_HOUR: Final = 6
PATIENCE: Final = 600.0


@dataclass(frozen=True, slots=True)
class Warm:
    """A model that should be resident. `schedule` None: always; `num_ctx` None: as clients ask."""

    model: str  # normalised
    keep_alive: float = KEEP_ALIVE  # seconds, inf for ever
    schedule: Schedule | None = None
    num_ctx: int | None = None

    def expected(self, at: float) -> bool:
        """Tell whether it should be resident at a moment, Unix seconds."""
        return self.schedule is None or self.schedule.holds(at)


@dataclass(frozen=True, slots=True)
class KeepWarm:
    """The section. Durations in seconds. Earlier models go before later ones."""

    models: tuple[Warm, ...] = ()
    grace: float = GRACE  # after a stop nothing is done against it for so long
    most_per_hour: int = MOST_PER_HOUR  # loads of one model
    patience: float = PATIENCE  # for one load
    dry_run: bool = False

    def expected(self, at: float) -> tuple[str, ...]:
        """Return who should be resident at a moment, Unix seconds."""
        return tuple(warm.model for warm in self.models if warm.expected(at))


OFF: Final = KeepWarm()


def keep_warm(name: str, value: object) -> KeepWarm:
    """Accept the section. Raises ConfigError."""
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
    if "load_timeout" in parsed:
        parsed["patience"] = parsed.pop("load_timeout")
    return KeepWarm(**parsed)


def _models(name: str, value: object) -> tuple[Warm, ...]:
    models: dict[str, Warm] = {}
    for key, item in mapping.entries(name, value).items():
        model = normalise(key)
        if model in models:
            raise ConfigError(name, key, f"one entry for {model}")
        parsed = mapping.section(
            f"{name}.{key}",
            item,
            {"schedule": schedule, "keep-alive": mapping.lasting, "num-ctx": mapping.context},
        )
        models[model] = Warm(model, **parsed)
    return tuple(models.values())
