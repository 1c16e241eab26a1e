# SPDX-License-Identifier: Apache-2.0
"""A reload of what the exporter does: all or nothing, at once, in a running one."""

import asyncio
from pathlib import Path

import httpx
from click.testing import CliRunner

from ollama_exporter.cli.main import cli
from ollama_exporter.config.load import load
from ollama_exporter.metrics.collectors.exporter_collector import LogCounter
from ollama_exporter.runtime import run
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host, Load
from tests.support.exporting import Records, parsed, same_logger, until
from tests.support.patience import PATIENCE

HOST = Host(memory=24 * GIB, recovery=0.1, convergence=0.05)
CATALOGUE = default_catalogue().compressed(200.0)
BASE = """
poll.interval: 1s
web.enable-lifecycle: true
web.listen-address: 127.0.0.1:0
web.disable-exporter-metrics: true
proxy.listen-address: 127.0.0.1:0
"""
WARM = "keep-warm: {models: {llama3.2: {keep-alive: 10m}}}\n"
RULES = 'defaults: {"*": {keep-alive: 20m}}\n'
HEADER = "x-ollama-exporter-set"


def test_sections_come_and_go_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"

    async def main() -> None:
        async with Simulator(Config(host=HOST, catalogue=CATALOGUE)) as sim:
            await check(sim)

    async def check(sim: Simulator) -> None:
        flags = {"ollama.url": sim.url}
        file.write_text(BASE, encoding="utf-8")
        stop, log = asyncio.Event(), Records()
        with same_logger() as logger:
            logger.setLevel("INFO")
            logger.addHandler(log)
            settings = load(flags, environment={}, file=file)
            task = asyncio.create_task(
                run(
                    settings,
                    stop=stop,
                    reread=lambda: load(flags, environment={}, file=file),
                    log_lines=LogCounter(),
                )
            )
            await until(lambda: task.done() or log.count("Proxy listening on"))
            web, proxy = (
                f"http://{vars(r)['address']}"
                for r in log.records
                if r.getMessage() in ("Listening on", "Proxy listening on")
            )
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
                await changes(sim, client, web, proxy)
            stop.set()
            await task

    async def changes(sim: Simulator, client: httpx.AsyncClient, web: str, proxy: str) -> None:
        async def reload(text: str) -> httpx.Response:
            file.write_text(BASE + text, encoding="utf-8")
            return await client.post(f"{web}/-/reload")

        async def ask(model: str) -> httpx.Response:
            body = {"model": model, "prompt": "[[n=1]]", "stream": False}
            return await client.post(f"{proxy}/api/generate", json=body)

        assert HEADER not in (await ask("mistral")).headers
        assert (await reload(WARM + RULES)).status_code == 200
        await until(
            lambda: any(isinstance(x, Load) and x.name == "llama3.2:latest" for x in sim.truth)
        )
        # afterwards, if it is not known yet that no other name of it is resident
        assert "20m0s" in (await ask("qwen2.5:7b")).headers[HEADER]

        refused = await reload(WARM.replace("10m", "10x"))
        assert refused.status_code == 500
        assert "keep-warm.models.llama3.2.keep-alive: must be a duration" in refused.text
        assert HEADER in (await ask("qwen2.5:7b")).headers  # the old one is in force

        assert (await reload("")).status_code == 200
        assert HEADER not in (await ask("qwen2.5:7b")).headers
        samples = parsed((await client.get(f"{web}/metrics")).text)
        assert ("ollama_model_expected", "model=llama3.2:latest") not in samples
        assert samples["ollama_exporter_recorder_errors_total", ""] == 0

    asyncio.run(main())


def test_what_check_config_prints_can_be_pasted_back(tmp_path: Path) -> None:
    file, pasted = tmp_path / "c.yaml", tmp_path / "pasted.yaml"
    file.write_text(
        "keep-warm:\n  dry-run: true\n  models:\n"
        "    mistral: {schedule: Mon-Fri 08:00-18:00 Europe/Berlin, keep-alive: 2h}\n"
        "    llama3.2: {keep-alive: -1, num-ctx: 8192}\n"
        'defaults: {"qwen*": {keep-alive: 10m, max-num-ctx: 32768}}\n'
        "autopilot: {max: 2h}\n",
        encoding="utf-8",
    )
    done = CliRunner().invoke(cli, ["check-config", "--config.file", str(file)])
    assert done.exit_code == 0, done.output
    pasted.write_text(done.output, encoding="utf-8")
    assert load({}, environment={}, file=pasted) == load({}, environment={}, file=file)
    assert "schedule: Mon-Fri 08:00-18:00 Europe/Berlin" in done.output
    assert "keep-alive: 2h" in done.output
    assert "# state.file:" in done.output
    file.write_text("keep-warm: {models: {a: {schedule: 'Mon 08:00-09:00'}}}", encoding="utf-8")
    done = CliRunner().invoke(cli, ["check-config", "--config.file", str(file)])
    assert done.exit_code == 2
    assert "keep-warm.models.a.schedule: must be a window with its time zone" in done.stderr
