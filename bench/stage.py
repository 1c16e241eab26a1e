# SPDX-License-Identifier: Apache-2.0
"""A simulated server with five resident models, in a process of its own.

Prints its URL once all are loaded and ends when its standard input does. `--processes`: the server
and its runners have processes that a watcher finds.
"""

import asyncio
import sys

import httpx

from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host

MODELS = ("mistral", "llama3.2", "qwen2.5:7b", "nomic-embed-text", "gemma2:27b")


async def main() -> None:
    config = Config(
        host=Host(memory=80 * GIB, max_loaded=len(MODELS), context=4096),
        catalogue=default_catalogue().compressed(1000.0),
        processes="--processes" in sys.argv,
    )
    async with Simulator(config) as sim, httpx.AsyncClient(trust_env=False, timeout=30) as client:
        for model in MODELS:
            route = "embed" if "embed" in model else "generate"
            body = {"model": model, "keep_alive": -1}
            answer = await client.post(f"{sim.url}/api/{route}", json=body)
            answer.raise_for_status()
            # A server lists models whose deadlines are of one second in any order, anew each time.
            await asyncio.sleep(1.0)
        listed = (await client.get(f"{sim.url}/api/ps")).json()["models"]
        assert len(listed) == len(MODELS), f"only {len(listed)} models are resident"
        print(sim.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
