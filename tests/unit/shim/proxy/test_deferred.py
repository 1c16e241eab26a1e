# SPDX-License-Identifier: Apache-2.0
import asyncio

from ollama_exporter.shim.proxy.deferred import Deferred
from tests.support.exporting import until


def test_deferred_calls_run_in_order_and_all_run() -> None:
    async def run() -> list[int]:
        made: list[int] = []
        later = Deferred()
        for number in range(100):
            later(lambda number=number: made.append(number))  # type: ignore[misc]  # mypy cannot infer it
        assert made == []
        await until(lambda: len(made) == 100)
        later(lambda: made.append(100))
        later.finish()
        return made

    assert asyncio.run(run()) == list(range(101))
