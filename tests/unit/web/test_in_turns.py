# SPDX-License-Identifier: Apache-2.0
"""A long scrape on the event loop lets others have their turn."""

import asyncio
import time
from collections.abc import Iterator

from ollama_exporter.web.in_turns import TURN, in_turns


def test_others_have_their_turn_between_two_parts_of_a_turn_each() -> None:
    order: list[str] = []

    def parts() -> Iterator[bytes]:
        for number in range(3):
            end = time.perf_counter() + TURN
            while time.perf_counter() < end:
                pass
            order.append(f"part {number}")
            yield b"%d" % number

    async def other() -> None:
        for _ in range(3):
            order.append("other")
            await asyncio.sleep(0)

    async def main() -> bytes:
        others = asyncio.create_task(other())
        whole = await in_turns(parts())
        await others
        return whole

    assert asyncio.run(main()) == b"012"
    assert order == ["part 0", "other", "part 1", "other", "part 2", "other"]
