# SPDX-License-Identifier: Apache-2.0
"""A cap holds for every request that the server's decoder would read so."""

import asyncio
import json

import httpx
import pytest

from ollama_exporter.actions.defaults.defaults_section import Rule
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from tests.support.exporting import exporting
from tests.support.patience import PATIENCE

CONFIG = Config(
    host=Host(memory=24 * GIB, recovery=0.1, convergence=0.05),
    catalogue=default_catalogue().compressed(200.0),
)
HEADER = "x-ollama-exporter-set"
RULE = Rule("*", max_keep_alive=60.0, max_num_ctx=4096)
ASK = '{"model":"mistral","prompt":"[[n=1]]"'
BODIES = {
    "a lone surrogate": r'{"model":"mistral","prompt":"[[n=1]] \ud83d","keep_alive":-1}',
    "keys in capitals": '{"MODEL":"mistral","Prompt":"[[n=1]]","Keep_Alive":-1}',
    "the last of two": ASK + ',"keep_alive":"1m","KEEP_ALIVE":-1}',
    "an escaped key": ASK + r',"keep\u005falive":-1}',
    "nested deeply": f'{ASK},"x":{"[" * 3000}{"]" * 3000},"keep_alive":-1}}',
    "a long number": f'{ASK},"x":{"9" * 5000},"keep_alive":-1}}',
    "text behind it": ASK + ',"keep_alive":-1} and more',
}
CONTEXTS = {
    "a float": ASK + ',"options":{"num_ctx":65536.0}}',
    "an exponent": ASK + ',"options":{"num_ctx":6.5536e4}}',
    "merged options": ASK + ',"options":{"num_ctx":65536},"options":{}}',
}


def changed_by(body: str) -> str:
    """Send a body through the proxy; return what the proxy says that it set."""

    async def main() -> str:
        async with (
            Simulator(CONFIG) as sim,
            exporting(sim.url, defaults=(RULE,), proxy_addresses=(":0",)) as exporter,
        ):
            said = [r for r in exporter.log.records if r.getMessage() == "Proxy listening on"]
            url = f"http://{vars(said[0])['address']}/api/generate"
            await exporter.until(lambda s: ("ollama_models_installed", "") in s)
            async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
                answer = await client.post(url, content=body.encode())
            assert answer.status_code == 200, answer.text
            return str(answer.headers.get(HEADER, ""))

    return asyncio.run(main())


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_keep_alive_cap_cannot_be_passed(body: str) -> None:
    assert changed_by(body) == "keep_alive=1m0s"


@pytest.mark.parametrize("body", CONTEXTS.values(), ids=CONTEXTS)
def test_a_context_cap_cannot_be_passed(body: str) -> None:
    assert changed_by(body) == "num_ctx=4096"


def test_options_match_exactly_as_in_the_server() -> None:
    """`options` is a map in the server, so `Num_Ctx` is an unknown option there."""
    body = {"model": "mistral", "prompt": "[[n=1]]", "options": {"Num_Ctx": 65536}}
    assert changed_by(json.dumps(body)) == ""
