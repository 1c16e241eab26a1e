# SPDX-License-Identifier: Apache-2.0
"""`record` as a process against the simulator, and what `replay` makes of it."""

import asyncio
import gzip
import platform
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ollama_exporter.poller.poll_schedule import Cadence
from ollama_exporter.recordings.read_recording import read_recording
from ollama_exporter.recordings.replayer import replay
from ollama_exporter.residency.events import Loaded, Unloaded
from ollama_exporter.residency.facts import (
    LogSaid,
    ProcessesSeen,
    ProcessExited,
    ProcessStarted,
    WeightsNamed,
)
from ollama_exporter.simulator.model_files import default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from tests.support.exporting import until
from tests.support.patience import PATIENCE


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
    file = tmp_path / "r.jsonl"

    async def story() -> str:
        async with (
            Simulator(Config(catalogue=default_catalogue().compressed(50.0))) as sim,
            httpx.AsyncClient() as client,
        ):
            process = await start(str(file), "--ollama.url", sim.url, "--poll.interval=1s")
            assert process.stderr is not None
            said = (await process.stderr.readline()).decode()
            await until(lambda: b'"version"' in file.read_bytes())
            ask = {"model": "llama3.2", "prompt": "[[n=3]]", "keep_alive": 2}
            await client.post(f"{sim.url}/api/generate", json=ask, timeout=PATIENCE)
            while b"unloaded" not in (line := await process.stderr.readline()):
                said += line.decode()
            # The replay takes the next poll after each due moment: let some be.
            polls = file.read_bytes().count(b'"poll"')
            await until(lambda: file.read_bytes().count(b'"poll"') > polls + 2)
            process.send_signal(signal.SIGINT)
            said += (line + await process.stderr.read()).decode()
            assert await process.wait() == 0
        return said

    said = asyncio.run(story())
    assert "loaded    llama3.2:latest" in said
    assert "unloaded  llama3.2:latest  expired" in said
    assert "polls written" in said
    recording = read_recording(file)
    assert {answer.version for answer in recording.versions} == {Config().shown_version}
    events = list(replay(recording, Cadence(1.0)))
    assert [event.model.name for event in events if isinstance(event, Loaded)] == [
        "llama3.2:latest"
    ]
    assert [event.reason for event in events if isinstance(event, Unloaded)] == ["expired"]


def test_it_ends_by_itself_and_records_a_server_that_is_down(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl.gz"
    command = [sys.executable, "-m", "ollama_exporter", "record", str(file)]
    command += ["--ollama.url=127.0.0.1:9", "--duration=2"]
    with Path("/dev/full").open("wb") as full:  # that nobody can read its notes ends nothing
        done = subprocess.run(command, stderr=full, timeout=PATIENCE, check=False)
    assert done.returncode == 0
    assert b'"error":"refused"' in gzip.decompress(file.read_bytes())


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


@pytest.mark.skipif(platform.system() != "Linux", reason="real processes need Linux")
def test_processes_names_and_what_the_log_says_are_recorded(tmp_path: Path) -> None:
    file, log = tmp_path / "r.jsonl", tmp_path / "server.log"
    log.touch()

    async def story() -> None:
        catalogue = default_catalogue().compressed(50.0)
        async with (
            Simulator(Config(catalogue=catalogue, processes=True)) as sim,
            httpx.AsyncClient() as client,
        ):
            process = await start(
                str(file), "--ollama.url", sim.url, f"--ollama.log={log}", "--poll.interval=1s"
            )
            assert process.stderr is not None
            await process.stderr.readline()
            await until(lambda: b'"show"' in file.read_bytes())
            ask = {"model": "llama3.2", "prompt": "[[n=3]]"}
            await client.post(f"{sim.url}/api/generate", json=ask, timeout=PATIENCE)
            with log.open("a", encoding="utf-8") as stream:
                stream.write(
                    "time=2026-11-23T20:03:49.426Z level=INFO source=x.go:1 "
                    'msg="llama-server started in 0.30 seconds" secret=hunter2\n'
                )
            await until(lambda: b'"log"' in file.read_bytes())
            await until(lambda: b'"runner"' in file.read_bytes())
            await until(lambda: file.read_bytes().count(b'"expires_at"') > 3)
            stop = {"model": "llama3.2", "keep_alive": 0}
            await client.post(f"{sim.url}/api/generate", json=stop, timeout=PATIENCE)
            await until(lambda: b'"exited"' in file.read_bytes())
            polls = file.read_bytes().count(b'"poll"')
            await until(lambda: file.read_bytes().count(b'"poll"') > polls + 2)
            process.send_signal(signal.SIGINT)
            await process.communicate()

    asyncio.run(story())
    assert "hunter2" not in file.read_text("utf-8")
    recording = read_recording(file)
    kinds = [type(fact) for fact in recording.processes if not isinstance(fact, WeightsNamed)]
    assert kinds[:2] == [ProcessesSeen, ProcessStarted]
    assert kinds.count(ProcessStarted) == 2
    assert kinds.count(ProcessExited) == 1
    weights = default_catalogue().manifests["llama3.2:latest"].file.weights
    named = [fact for fact in recording.processes if isinstance(fact, WeightsNamed)]
    assert weights in {fact.weights for fact in named if fact.model == "llama3.2:latest"}
    started = [fact for fact in recording.processes if isinstance(fact, ProcessStarted)]
    assert started[1].weights == weights
    assert [x.seconds for x in recording.log if isinstance(x, LogSaid)] == [0.3]
    (reason,) = (x.reason for x in replay(recording, Cadence(1.0)) if isinstance(x, Unloaded))
    # The recording may end before a scan shows that nothing was born.
    assert reason in {"stopped", "unknown"}


@pytest.mark.skipif(platform.system() != "Linux", reason="real processes need Linux")
def test_slots_are_recorded_without_the_prompts_that_a_runner_shows(tmp_path: Path) -> None:
    file, prompt = tmp_path / "r.jsonl", "a prompt that nobody else may read"

    async def story() -> bytes:
        host = Host(slots_debug=True, endpoint_metrics=True)
        catalogue = default_catalogue().compressed(300.0)
        config = Config(host=host, catalogue=catalogue, processes=True)
        async with Simulator(config) as sim, httpx.AsyncClient() as client:
            process = await start(str(file), "--ollama.url", sim.url, "--poll.interval=1s")
            assert process.stderr is not None
            await process.stderr.readline()
            ask = {"model": "mistral", "prompt": f"{prompt} [[n=50 tps=50]]"}
            await client.post(f"{sim.url}/api/generate", json=ask, timeout=PATIENCE)
            await until(lambda: file.read_bytes().count(b'"n_prompt_tokens":') >= 1)
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
            assert await process.wait() == 0
            return out + err

    said = asyncio.run(story())
    assert prompt.encode() not in file.read_bytes() + said
    looks = [look for look in read_recording(file).looks if look.slots]
    assert looks[-1].slots is not None
    assert looks[-1].slots[0].held >= len(prompt.split())
    assert looks[-1].weights.startswith("sha256-")
