# SPDX-License-Identifier: Apache-2.0
"""How long loads took, as the bars of `warm` show it."""

import asyncio
import io
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from ollama_exporter.actions.warm.load_estimates import (
    earlier_loads,
    loads_in_progress,
    saved_loads,
)
from ollama_exporter.actions.warm.load_models import WarmOutcome, WarmResult
from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.advice.saved_usage import SavedUsage
from ollama_exporter.bounded_client import BoundedClient
from ollama_exporter.cli.warm import Bars, follow_loads
from ollama_exporter.residency.saved_state import Saved
from ollama_exporter.simulator.model_files import default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.state_file import SavedState, StateFile
from tests.support.exporting import exporting
from tests.support.faultserver import closed_port
from tests.support.patience import PATIENCE
from tests.support.virtual import run_virtually


def test_a_running_exporter_tells_what_it_has_measured() -> None:
    async def main() -> None:
        config = Config(catalogue=default_catalogue().compressed(50.0))
        async with (
            Simulator(config) as sim,
            exporting(sim.url, proxy_addresses=(":0",)) as exporter,
        ):
            said = [r for r in exporter.log.records if r.getMessage() == "Proxy listening on"]
            await exporter.until(lambda s: ("ollama_models_installed", "") in s)
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
                url = f"http://{vars(said[0])['address']}/api/generate"
                await client.post(url, json={"model": "mistral", "prompt": "[[n=1]]"})
            label = "model=mistral:latest"
            samples = await exporter.until(
                lambda s: s.get(("ollama_model_load_seconds_count", label)) == 1
            )
            took = samples["ollama_model_load_seconds_sum", label]
            assert took > 0.5  # a busy machine only adds to it
            where = f"http://{exporter.address}/metrics"
            found = await asyncio.to_thread(
                earlier_loads, BoundedClient(), where, ["mistral", "llama3.2"]
            )
            assert found == {"mistral": pytest.approx(took)}

    asyncio.run(main())


def test_a_state_file_tells_it_as_well_and_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    file = StateFile(path, url="http://box:11434")
    assert saved_loads(file, ["mistral"]) == {}
    habits = {"mistral:latest": SavedUsage(IdleHistogram(), load_seconds=60.0, loads=2)}
    file.write(SavedState(Saved(None, (), ()), habits))
    assert saved_loads(file, ["mistral", "llama3.2"]) == {"mistral": 30.0}
    assert saved_loads(StateFile(path, url="http://other:11434"), ["mistral"]) == {}
    path.write_text("{", encoding="utf-8")
    assert saved_loads(file, ["mistral"]) == {}
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("url", ["https://box/metrics", "nonsense", "http://127.0.0.1:%d/metrics"])
def test_without_one_there_is_no_estimate(url: str) -> None:
    closed = url.replace("%d", str(closed_port()))
    assert earlier_loads(BoundedClient(), closed, ["mistral"]) == {}
    assert loads_in_progress(BoundedClient(), closed, ["mistral"]) is None


def test_a_bar_shows_what_an_exporter_sees_read_until_it_answers_no_more() -> None:
    progress = Progress(
        TextColumn("{task.description} {task.fields[note]}"),
        console=Console(file=io.StringIO(), force_terminal=True, width=80),
        auto_refresh=False,
    )
    answers: list[dict[str, float] | None] = [{}, {"mistral": 0.25}, {"mistral": 0.5}, {}, None]

    async def main() -> None:
        shares: dict[str, float] = {}
        bars = Bars(progress, {"mistral": 4.0}, shares)
        bars.on_start("mistral")
        (bar,) = progress.tasks
        following = asyncio.create_task(follow_loads(lambda: answers.pop(0), shares))
        await asyncio.sleep(0.55)
        assert bar.total == 4.0
        assert bar.completed == pytest.approx(0.5)
        await asyncio.sleep(1)
        assert (bar.total, bar.completed, bar.fields["note"]) == (1, 0.25, "25% read")
        await following
        assert (bar.completed, answers) == (0.5, [])
        bars.on_end(WarmResult("mistral", WarmOutcome.LOADED))
        assert bar.finished

    run_virtually(main())


def test_a_bar_moves_along_the_estimate_and_ends_with_the_outcome() -> None:
    text = io.StringIO()
    progress = Progress(
        TextColumn("{task.description} {task.fields[note]}"),
        console=Console(file=text, force_terminal=True, width=80),
        auto_refresh=False,
    )

    async def main() -> None:
        bars = Bars(progress, {"mistral": 4.0})
        bars.on_start("mistral")
        bars.on_start("llama3.2")
        known, unknown = progress.tasks
        assert (known.total, known.fields["note"]) == (4.0, "about 4 s")
        assert (unknown.total, unknown.fields["note"]) == (None, "")
        await asyncio.sleep(2.05)
        assert known.completed == pytest.approx(2.0)
        bars.on_end(WarmResult("mistral", WarmOutcome.LOADED))
        bars.on_end(WarmResult("llama3.2", WarmOutcome.FAILED))
        assert (known.finished, unknown.fields["note"]) == (True, "failed")

    run_virtually(main())
