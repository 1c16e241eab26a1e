# SPDX-License-Identifier: Apache-2.0
"""A measurement whose server is lost for good, on the virtual clock."""

import asyncio
from typing import Any

import pytest

from ollama_exporter.actions.measure.measure_model import Measurement, MeasurePlan, measure
from ollama_exporter.config.target import Target
from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.control_client import ControlClient, Generated
from ollama_exporter.protocol.wire import ModelDetails
from tests.support.virtual import now, run_virtually
from tests.support.virtual_ollama import VirtualOllama


class LostClient(ControlClient):
    """Talks to a server that is lost with the first answer."""

    def __init__(self, ollama: VirtualOllama) -> None:
        super().__init__(Target("test", "http://127.0.0.1:1"))
        self._ollama = ollama

    async def ps(self) -> PsAnswer:
        return await self._ollama.ps()

    async def version(self) -> str:
        return await self._ollama.version()

    async def details(self, name: str) -> ModelDetails:
        return await self._ollama.details(name)

    async def generate(self, *_args: Any, **_values: Any) -> Generated:
        self._ollama.up = False
        raise TargetError(FailureReason.RESET, "the connection broke")


def test_an_outage_that_lasts_ends_the_measurement_and_is_said() -> None:
    """Promise 13."""
    measured = Measurement()

    async def main() -> None:
        ollama = VirtualOllama()
        await ollama.ask("llama3.2", keep_alive="20m")
        await asyncio.sleep(1)
        client, began = LostClient(ollama), now()
        try:
            plan = MeasurePlan("mistral", "Hi", 50, 1, 2, timeout=60.0)
            with pytest.raises(TargetError, match="the connection broke"):
                await measure(client, plan, measured, lambda _step: None)
        finally:
            await client.aclose()
        assert 10 <= now() - began < 15

    run_virtually(main())
    (note,) = measured.notes
    assert note.startswith("the server's state was not restored: refused: ")
    assert note.endswith("; resident before: llama3.2:latest")
