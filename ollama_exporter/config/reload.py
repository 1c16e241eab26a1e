# SPDX-License-Identifier: Apache-2.0
"""The settings in force, and what a reload may change of them."""

import logging
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from ollama_exporter.config.schema import ROWS, Settings
from ollama_exporter.config.setting import written
from ollama_exporter.errors import OllamaExporterError, RestartNeededError
from ollama_exporter.log import setup
from ollama_exporter.poller.poll_schedule import JITTER, Cadence
from ollama_exporter.protocol.model_names import normalise

logger = logging.getLogger(__name__)


class CurrentSettings(Struct):
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


class ReloadMetrics(Protocol):
    """What shows whether a reload succeeded."""

    def reloaded(self, *, at: float) -> None:
        """Note a successful reload; `at`: Unix seconds."""

    def reload_failed(self) -> None:
        """Note a failed reload."""


class Reload(Struct, frozen=True, kw_only=True):
    """Reads the settings again and puts them in force: all of them or none."""

    current: CurrentSettings
    reread: Callable[[], Settings] | None  # None: they stay as they are
    check: Callable[[Settings], None]  # raises ConfigError for what the settings alone do not show
    apply: Callable[[Settings], None]
    metrics: ReloadMetrics
    wall: Callable[[], float]  # Unix seconds
    log_lines: logging.Handler

    def __call__(self) -> None:
        """Raise ConfigError if the new settings cannot be used: the old ones stay."""
        try:
            settings = self.current.settings if self.reread is None else self.reread()
            self.check(settings)
            changed = self.current.replace(settings)
        except OllamaExporterError:
            self.metrics.reload_failed()
            raise
        self.apply(settings)
        as_json = settings.log_format == "json"
        setup(level=settings.log_level, as_json=as_json, counter=self.log_lines)
        self.metrics.reloaded(at=self.wall())
        logger.info("Configuration reloaded", extra={"changed": ", ".join(changed) or "nothing"})

    def logged(self) -> None:
        """Reload for a signal: errors are logged."""
        try:
            self()
        except OllamaExporterError as err:
            logger.warning("Reload failed", extra={"err": str(err)})
