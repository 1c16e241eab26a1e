# SPDX-License-Identifier: Apache-2.0
"""A file that cannot be read in time: on a network file system whose server is gone, say."""

import asyncio
import threading

from ollama_exporter.watched_file import GRACE, WatchedFile
from tests.support.patience import PATIENCE
from tests.support.proxying import Clock


def test_a_read_that_hangs_blocks_nothing_and_the_token_becomes_void() -> None:
    clock, errors, answers = Clock(), list[str](), threading.Event()
    reads = 0

    def load() -> str:
        nonlocal reads
        reads += 1
        if reads > 1:
            assert answers.wait(PATIENCE)
        return f"token {reads}"

    async def check() -> None:
        watched = WatchedFile("proxy.token-file", load, now=clock, on_error=errors.append)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        counting = asyncio.create_task(count())
        await watched.refresh()
        assert (watched.current(), len(errors)) == ("token 1", 1)
        assert turns > 1  # the loop went on meanwhile
        clock.at += GRACE
        await watched.refresh()
        assert watched.current() is None
        answers.set()
        async with asyncio.timeout(PATIENCE):
            while watched.current() is None:
                await watched.refresh()
        assert watched.current() == "token 2"
        assert reads == 2  # no second read while one hangs
        counting.cancel()

    asyncio.run(check())
