# SPDX-License-Identifier: Apache-2.0
"""Processes that are really hidden, where this machine lets us hide them."""

import asyncio
import platform
import shutil
import subprocess
import sys
from typing import Final

import pytest

from ollama_exporter.simulator.simulator import Config, Simulator
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="namespaces are Linux'")
UNSHARE: Final = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture
def unshare() -> list[str]:
    """Return what runs a command in a PID namespace of its own."""
    if shutil.which(UNSHARE[0]) is None:
        pytest.skip("this machine has no unshare")
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not make a PID namespace")
    return UNSHARE


def test_an_exporter_in_a_pid_namespace_of_its_own_says_so(unshare: list[str]) -> None:
    async def story() -> str:
        async with Simulator(Config(processes=True)) as sim:
            exporter = await asyncio.create_subprocess_exec(
                *unshare,
                *(sys.executable, "-m", "ollama_exporter", "serve"),
                "--web.listen-address=127.0.0.1:0",
                f"--ollama.url={sim.url}",
                stderr=asyncio.subprocess.PIPE,
            )
            assert exporter.stderr is not None
            try:
                async with asyncio.timeout(PATIENCE):
                    async for line in exporter.stderr:
                        if b"atching processes" in line:
                            return line.decode()
                return ""
            finally:
                exporter.kill()
                await exporter.wait()

    said = asyncio.run(story())
    assert "Not watching processes" in said
    assert "PID namespace of its own" in said
