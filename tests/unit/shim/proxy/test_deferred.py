# SPDX-License-Identifier: Apache-2.0
import asyncio

from ollama_exporter.shim.proxy.deferred import Deferred
from tests.support.virtual import run_virtually


def test_deferred_calls_run_in_order_and_all_run() -> None:
    made: list[int] = []

    async def main() -> None:
        later = Deferred()
        for number in range(100):
            later(lambda number=number: made.append(number))  # type: ignore[misc]  # mypy cannot infer it
        assert made == []
        await asyncio.sleep(1)  # virtual time passes only if nothing is scheduled for ever
        assert len(made) == 100
        later(lambda: made.append(100))
        later.finish()

    run_virtually(main())
    assert made == list(range(101))
