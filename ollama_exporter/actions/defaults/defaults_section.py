# SPDX-License-Identifier: Apache-2.0
"""Sections `defaults` and `autopilot`: what the proxy sets in requests, by model name pattern."""

from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from ollama_exporter.config import mapping, parsers
from ollama_exporter.errors import ConfigError
from ollama_exporter.protocol.keepalive import compact
from ollama_exporter.protocol.model_names import without_implied

DEFAULTS: Final = "defaults"
AUTOPILOT: Final = "autopilot"
LOWEST: Final = 60.0
HIGHEST: Final = 4 * 3600.0
LEAST_GAPS: Final = 20


class Rule(Struct, frozen=True):
    """Values for models whose name matches. Durations in seconds, inf forever; None: not set."""

    pattern: str  # a shell pattern for the model name
    keep_alive: float | None = None  # for requests without one
    num_ctx: int | None = None  # for requests without one
    max_keep_alive: float | None = None  # longer ones are capped
    max_num_ctx: int | None = None  # greater ones are capped

    def matches(self, model: str) -> bool:
        """Return whether a normalised name matches."""
        return matches(self.pattern, model)


class Autopilot(Struct, frozen=True):
    """The models whose keep_alive follows the advice, and its limits in seconds."""

    models: tuple[str, ...] = ("*",)
    min: float = LOWEST
    max: float = HIGHEST
    least_gaps: int = LEAST_GAPS  # advice from fewer idle gaps is not followed

    def follows(self, model: str) -> bool:
        """Return whether a normalised name is one of the models."""
        return any(matches(pattern, model) for pattern in self.models)


def matches(pattern: str, model: str) -> bool:
    """Return whether a name matches. A pattern without a tag matches all tags."""
    pattern = without_implied(pattern).lower()
    name = model if _has_tag(pattern) else model.rpartition(":")[0]
    return fnmatchcase(name.lower(), pattern)


def _has_tag(pattern: str) -> bool:
    return ":" in pattern.rsplit("/", 1)[-1]


def _covers(first: str, second: str) -> bool:
    """Return whether one pattern matches all that another does, so that this is never used."""
    second = without_implied(second)
    if _has_tag(first):
        return fnmatchcase(second.lower(), without_implied(first).lower())
    return matches(first, second if _has_tag(second) else f"{second}:*")


def defaults(name: str, value: object) -> tuple[Rule, ...]:
    """Parse the section. Raises ConfigError."""
    patterns = list(mapping.entries(name, value))
    for index, pattern in enumerate(patterns):
        before = next((each for each in patterns[:index] if _covers(each, pattern)), None)
        if before is not None:
            raise ConfigError(name, pattern, f"the rule {before} comes first and matches the same")
    return tuple(_rule(name, key, item) for key, item in mapping.entries(name, value).items())


def _rule(name: str, pattern: str, value: object) -> Rule:
    where = f"{name}.{pattern}"
    parsed = mapping.section(
        where,
        value,
        {
            "keep-alive": mapping.positive_keep_alive,
            "num-ctx": mapping.context,
            "max-keep-alive": mapping.positive_keep_alive,
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
            text = compact if key == "keep_alive" else str
            bound = f"at most max-{written}, {text(high)}"
            raise ConfigError(f"{where}.{written}", text(low), bound)
    return rule


def autopilot(name: str, value: object) -> Autopilot:
    """Parse the section. Raises ConfigError."""
    parsed = mapping.section(
        name,
        value,
        {
            "models": parsers.texts,
            "min": mapping.positive_keep_alive,
            "max": mapping.positive_keep_alive,
            "least-gaps": parsers.count(1),
        },
    )
    pilot = Autopilot(**parsed)
    if pilot.min > pilot.max:
        raise ConfigError(f"{name}.min", compact(pilot.min), f"at most max, {compact(pilot.max)}")
    return pilot
