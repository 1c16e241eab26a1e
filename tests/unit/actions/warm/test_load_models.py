# SPDX-License-Identifier: Apache-2.0
"""Whose time was over and who was driven out, whatever the phase of the server's second."""

import asyncio
from typing import Any, cast

import pytest

from ollama_exporter.actions.warm.load_models import (
    WarmOptions,
    WarmOutcome,
    WarmProgress,
    WarmResult,
    warm_up,
)
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.wire import ModelDetails, RunningModel

NOW = 1_700_000_000.0  # the Date header of every answer: up to a second has passed since


class Scripted:
    """Answers listings in order, and loads at once."""

    def __init__(self, *listings: list[RunningModel]) -> None:
        self._listings = list(listings)

    async def ps(self) -> PsAnswer:
        """Return the next listing."""
        listing = tuple(self._listings.pop(0))
        return PsAnswer(listing, 200, NOW, None, new_connection=False, body=b"")

    async def details(self, _name: str) -> ModelDetails:
        """Tell nothing of a name."""
        return ModelDetails()

    async def preload(self, _model: str, **_values: object) -> None:
        """Load."""


def model(name: str, left: float) -> RunningModel:
    return RunningModel(f"{name}:latest", f"{name:a<64}", NOW + left)


def warmed(*listings: list[RunningModel]) -> WarmResult:
    client = cast("Any", Scripted([], *listings))
    (result,) = asyncio.run(warm_up(client, ["b"], WarmOptions(evict=True), (), WarmProgress()))
    return result


@pytest.mark.parametrize(("left", "evicted"), [(0.4, ()), (1.0, ()), (300.0, ("a:latest",))])
def test_whose_deadline_may_have_passed_was_not_driven_out(
    left: float, evicted: tuple[str, ...]
) -> None:
    loaded = [model("b", 300.0)]
    assert warmed([model("a", left)], loaded, loaded).evicted == evicted


@pytest.mark.parametrize(
    ("left", "outcome"),
    [(-0.1, WarmOutcome.EXPIRED), (0.9, WarmOutcome.EXPIRED), (1.1, WarmOutcome.EVICTED)],
)
def test_what_is_missing_at_last_has_expired_if_its_deadline_may_have_passed(
    left: float, outcome: WarmOutcome
) -> None:
    assert warmed([], [model("b", left)], []).outcome is outcome
