# SPDX-License-Identifier: Apache-2.0
"""The limit of open files. What changes it runs in a process of its own."""

import asyncio
import errno
import logging
import subprocess
import sys
from typing import Final

import pytest

from ollama_exporter.descriptors import LOG_INTERVAL, ExhaustionHandler

SCRIPT: Final = """
import resource
from ollama_exporter.descriptors import affordable_connections, raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], affordable_connections(1000))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "limit", "connections"),
    [
        (64, 4096, 4096, 1000),
        (1024, 1024, 1024, 480),
        (64, 64, 64, 8),
        (2064, 2064, 2064, 1000),
    ],
)
def test_the_limit_is_raised_and_bounds_the_connections(
    soft: int, hard: int, limit: int, connections: int
) -> None:
    script = SCRIPT.format(soft=soft, hard=hard)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(limit), str(connections)]
    assert ("raise LimitNOFILE" in done.stderr) == (connections < 1000)


def test_a_thousand_reports_of_exhaustion_are_one_line_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    handler = ExhaustionHandler(monotonic=lambda: now)
    loop = asyncio.new_event_loop()
    try:
        context = {
            "message": "socket.accept() out of system resource",
            "exception": OSError(errno.EMFILE, "Too many open files"),
        }
        for _ in range(1000):
            handler(loop, context)
        assert [(r.levelno, r.exc_info) for r in caplog.records] == [(logging.ERROR, None)]
        now = LOG_INTERVAL
        handler(loop, context)
        assert len(caplog.records) == 2
        caplog.clear()
        handler(loop, {"message": "another", "exception": ValueError("x")})
        assert caplog.records[0].exc_info is not None  # whatever else goes wrong stays in full
    finally:
        loop.close()
