# SPDX-License-Identifier: Apache-2.0
"""The front page of several servers, and the live page of each."""

import asyncio
import time
from functools import partial

import httpx
import pytest

from ollama_exporter.metrics.hidden_names import HiddenNames
from tests.support.exporting import Samples
from tests.support.faultserver import entry, faultserver
from tests.support.fleets import fleet
from tests.support.patience import PATIENCE

ODD = "[::1]:80"


def _has(sample: tuple[str, str], samples: Samples) -> bool:
    return sample in samples


def test_the_front_page_lists_the_servers_and_each_has_a_live_page() -> None:
    async def main() -> None:
        async with (
            faultserver() as one,
            faultserver() as two,
            fleet({"one": one.url, ODD: two.url}) as exporter,
        ):
            one.models = [entry("mine:latest", time.time() + 900.0)]
            two.models = [entry("theirs:latest", time.time() + 900.0)]
            for name, model in (("one", "mine:latest"), (ODD, "theirs:latest")):
                rank = ("ollama_model_eviction_rank", f"model={model}")
                samples = await exporter.until(name, partial(_has, rank))
                assert samples[rank] == 1.0
                asked = {"target": name}
                page = await exporter.http.get("/", params=asked)
                assert model in page.text
                assert "all servers" in page.text
                status = (await exporter.http.get("/api/v1/status", params=asked)).json()
                assert [each["name"] for each in status["status"]["models"]] == [model]
                assert [event["model"] for event in status["past"]["events"]] == [model]
            front = (await exporter.http.get("/")).text
            assert "2 of 2 servers answer" in front
            assert "mine:latest" in front
            assert 'href="?target=%5B%3A%3A1%5D%3A80"' in front

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/events"])
def test_an_unknown_target_has_no_page_and_no_echo(path: str) -> None:
    async def main() -> None:
        async with fleet({"one": "http://127.0.0.1:1"}) as exporter:
            for asked in ("two", "<script>", ""):
                answer = await exporter.http.get(path, params={"target": asked})
                assert answer.status_code == 404
                assert "script" not in answer.text

    asyncio.run(main())


def test_the_streams_of_all_servers_end_with_the_exporter() -> None:
    async def main() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            async with faultserver() as one, fleet({"one": one.url}) as exporter:
                await exporter.until("one", lambda samples: ("ollama_up", "") in samples)
                url = f"http://{exporter.address}/events?target=one"
                stream = await http.send(http.build_request("GET", url), stream=True)
                lines = stream.aiter_lines()
                assert await anext(lines) == "event: hello"
            rest = [line async for line in lines]  # a stream that is cut raises here
            assert rest[0].startswith("data: ")
            assert [r for r in exporter.log.records if r.levelname == "ERROR"] == []
            await stream.aclose()

    asyncio.run(main())


def test_names_of_models_can_be_hidden_everywhere() -> None:
    async def main() -> None:
        async with (
            faultserver() as server,
            fleet({"one": server.url}, hide_models="hash") as exporter,
        ):
            server.models = [entry("mine:latest", time.time() + 900.0)]
            name = HiddenNames()("mine:latest")
            await exporter.until("one", partial(_has, ("ollama_model_loaded", f"model={name}")))
            for path in ("/", "/api/v1/status", "/probe"):
                page = await exporter.http.get(path, params={"target": "one"})
                assert name in page.text
                assert "mine" not in page.text
            for path in ("/", "/api/v1/targets"):
                every = (await exporter.http.get(path)).text
                assert name in every
                assert "mine" not in every

    asyncio.run(main())
