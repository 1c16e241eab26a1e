# SPDX-License-Identifier: Apache-2.0
"""Sections `defaults` and `autopilot`: what the proxy sets in requests, by patterns of names."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from ollama_exporter.config import mapping, parsers
from ollama_exporter.errors import ConfigError

DEFAULTS: Final = "defaults"
AUTOPILOT: Final = "autopilot"
LOWEST: Final = 60.0
HIGHEST: Final = 4 * 3600.0
LEAST_GAPS: Final = 20


@dataclass(frozen=True, slots=True)
class Rule:
    """What is set for models whose name matches. Durations in seconds, inf for ever; None: not."""

    pattern: str  # as of the shell, against the name with its tag
    keep_alive: float | None = None  # for requests that carry none
    num_ctx: int | None = None  # likewise
    max_keep_alive: float | None = None  # longest that a request gets
    max_num_ctx: int | None = None

    def matches(self, model: str) -> bool:
        """Tell whether a normalised name matches."""
        return matches(self.pattern, model)


@dataclass(frozen=True, slots=True)
class Autopilot:
    """Who follows the advice, within which limits."""

    models: tuple[str, ...] = ("*",)
    min: float = LOWEST
    max: float = HIGHEST
    least_gaps: int = LEAST_GAPS  # advice that rests on fewer is not followed

    def follows(self, model: str) -> bool:
        """Tell whether a normalised name is among them."""
        return any(matches(pattern, model) for pattern in self.models)


def matches(pattern: str, model: str) -> bool:
    """Tell whether a name matches; without a tag in the pattern its tag does not count."""
    name = model if ":" in pattern.rsplit("/", 1)[-1] else model.rpartition(":")[0]
    return fnmatchcase(name.lower(), pattern.lower())


def defaults(name: str, value: object) -> tuple[Rule, ...]:
    """Accept the section. Raises ConfigError."""
    return tuple(_rule(name, key, item) for key, item in mapping.entries(name, value).items())


def _rule(name: str, pattern: str, value: object) -> Rule:
    where = f"{name}.{pattern}"
    parsed = mapping.section(
        where,
        value,
        {
            "keep-alive": mapping.lasting,
            "num-ctx": mapping.context,
            "max-keep-alive": mapping.lasting,
            "max-num-ctx": mapping.context,
        },
    )
    rule = Rule(pattern, **parsed)
    if not parsed:
        raise ConfigError(
            where, value, "accepted: keep-alive, num-ctx, max-keep-alive, max-num-ctx"
        )
    for key in ("keep_alive", "num_ctx"):
        low, high = getattr(rule, key), getattr(rule, f"max_{key}")
        if low is not None and high is not None and low > high:
            written = key.replace("_", "-")
            raise ConfigError(f"{where}.{written}", low, f"at most max-{written}, {high:g}")
    return rule


def autopilot(name: str, value: object) -> Autopilot:
    """Accept the section. Raises ConfigError."""
    parsed = mapping.section(
        name,
        value,
        {
            "models": parsers.texts,
            "min": mapping.lasting,
            "max": mapping.lasting,
            "least-gaps": parsers.count(1),
        },
    )
    pilot = Autopilot(**parsed)
    if pilot.min > pilot.max:
        raise ConfigError(f"{name}.min", pilot.min, f"at most max, {pilot.max:g}")
    return pilot
