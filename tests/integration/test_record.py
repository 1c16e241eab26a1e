# SPDX-License-Identifier: Apache-2.0
"""`record` as a process against the simulator, and what `replay` makes of it."""

import asyncio
import signal
import sys
from pathlib import Path

import httpx
import pytest

from ollama_exporter.recording import read
from ollama_exporter.replay import replay
from ollama_exporter.residency.events import Loaded, Unloaded
from ollama_exporter.residency.schedule import Cadence
from ollama_exporter.simulator.catalogue import default_catalogue
from ollama_exporter.simulator.server import Config, Simulator


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ollama_exporter",
        "record",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def test_what_was_recorded_replays_to_what_happened(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl.gz"

    async def story() -> str:
        async with (
            Simulator(Config(catalogue=default_catalogue().compressed(50.0))) as sim,
            httpx.AsyncClient() as client,
        ):
            process = await start(str(file), "--ollama.url", sim.url, "--poll.interval=1s")
            assert process.stderr is not None
            said = (await process.stderr.readline()).decode()
            ask = {"model": "llama3.2", "prompt": "[[n=3]]", "keep_alive": 2}
            await client.post(f"{sim.url}/api/generate", json=ask, timeout=30)
            while b"unloaded" not in (line := await process.stderr.readline()):
                said += line.decode()
            await asyncio.sleep(
                2.5
            )  # replay takes the next poll after each due moment: let some be
            process.send_signal(signal.SIGINT)
            said += (line + await process.stderr.read()).decode()
            assert await process.wait() == 0
        return said

    said = asyncio.run(story())
    assert "loaded    llama3.2:latest" in said
    assert "unloaded  llama3.2:latest  expired" in said
    assert "polls written" in said
    events = list(replay(read(file), Cadence(1.0)))
    assert [event.model.name for event in events if isinstance(event, Loaded)] == [
        "llama3.2:latest"
    ]
    assert [event.reason for event in events if isinstance(event, Unloaded)] == ["expired"]


def test_it_ends_by_itself_and_records_a_server_that_is_down(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"

    async def story() -> int:
        arguments = ("--ollama.url=127.0.0.1:9", "--duration=1")
        process = await start(str(file), *arguments)
        await process.communicate()
        return await process.wait()

    assert asyncio.run(story()) == 0
    assert '"error":"refused"' in file.read_text()


@pytest.mark.parametrize("place", ["/dev/full", "/nope/r.jsonl"])
def test_a_file_that_cannot_be_written_is_one_line(place: str) -> None:
    async def story() -> tuple[int, str]:
        process = await start(place, "--ollama.url=127.0.0.1:9", "--duration=20")
        _, err = await process.communicate()
        return await process.wait(), err.decode()

    code, err = asyncio.run(story())
    assert code == 1
    assert f"FILE: '{place}' cannot be written" in err.splitlines()[-1]
    assert "Traceback" not in err
