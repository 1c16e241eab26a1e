# SPDX-License-Identifier: Apache-2.0
"""The autopilot: the proxy's default keep_alive of a model follows the advice, within limits."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from ollama_exporter.actions.defaults.defaults_section import Autopilot
from ollama_exporter.metrics.action_metrics import ActionMetrics
from ollama_exporter.protocol.keepalive import render
from ollama_exporter.reporter import Reporter

EVERY: Final = 60.0  # seconds between two looks at the advice
MOST_MODELS: Final = 1000
logger = logging.getLogger(__name__)


class Advised(Protocol):
    """An advice, as far as it is needed here."""

    @property
    def keep_alive(self) -> float:
        """Seconds, inf for ever."""

    @property
    def samples(self) -> float:
        """Idle gaps that it rests on."""


class AutopilotRunner:
    """Gives each model that it follows a keep_alive. `advice`: by model, as of now."""

    def __init__(
        self,
        acts: ActionMetrics,
        advice: Callable[[], Iterable[tuple[str, Advised]]],
        reporter: Reporter,
    ) -> None:
        self._acts, self._advice, self._reporter = acts, advice, reporter
        self._given: dict[str, float] = {}
        self.section: Autopilot | None = None

    def given(self, model: str) -> float | None:
        """Return what a model was given; None: nothing yet."""
        return self._given.get(model)

    def take(self, section: Autopilot | None) -> None:
        """Take a section, the first one or that of a reload."""
        self.section = section
        if section is None:
            self._given = {}
            self._acts.clear_autopilot()

    def look(self) -> None:
        """Follow the advice."""
        if self.section is not None:
            for model, advice in self._advice():
                self._follow(self.section, model, advice)

    def _follow(self, section: Autopilot, model: str, advice: Advised) -> None:
        if not section.follows(model) or advice.samples < section.least_gaps:
            return
        keep_alive = min(max(advice.keep_alive, section.min), section.max)
        before = self._given.get(model)
        if before == keep_alive or (before is None and len(self._given) >= MOST_MODELS):
            return
        self._given[model] = keep_alive
        self._acts.on_autopilot(model, keep_alive)
        logger.info(
            "Autopilot sets a keep-alive",
            extra={
                "model": model,
                "keep_alive": render(keep_alive),
                "before": "none" if before is None else render(before),
                "advised": render(advice.keep_alive),
                "gaps": round(advice.samples),
            },
        )

    async def run(self) -> None:
        """Look at the advice now and then, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                self.look()
            except Exception:
                self._reporter.error()
                logger.exception("Autopilot failed in a way that was not foreseen")
