# SPDX-License-Identifier: Apache-2.0
"""The proxy tells clients apart: by tokens on a simulated server, and by made-up user agents."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final

import httpx
import pytest
from click.testing import CliRunner

from ollama_exporter.cli.main import cli
from ollama_exporter.residency.events import Reason, Unloaded
from ollama_exporter.shim.proxy.client_names import by_user_agent
from ollama_exporter.shim.proxy.client_tokens import watched_client_tokens
from ollama_exporter.shim.proxy.server import Frontend
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host
from ollama_exporter.watched_file import GRACE
from tests.support.exporting import Running, exporting, until
from tests.support.loops import Run
from tests.support.patience import PATIENCE
from tests.support.proxying import Clock, limits_with, proxied
from tests.support.rawserver import OK, answers, caller, rawserver

# Loads take more than half a second, and one model fits at a time.
CONFIG: Final = Config(Host(memory=7 * GIB), default_catalogue().compressed(20.0))
QUICK: Final = {"prompt": "hi [[n=3 ttft=0.01 tps=100]]"}
ALICE, BOB, SHARED = "tok-alice-8d1f", "tok-bob-77c2", "tok-of-all-51aa"
BRIEF: Final = limits_with(head_timeout=0.2, shutdown_timeout=0.3)


@asynccontextmanager
async def session(tmp_path: Path, **changes: Any) -> AsyncIterator[tuple[Running, str]]:
    """Run a simulated server, an exporter with two clients and one token for all, and yield it."""
    tokens, shared = tmp_path / "tokens", tmp_path / "shared"
    tokens.write_text(f"alice: {ALICE}\nbob: {BOB}\n")
    shared.write_text(SHARED)
    settings: dict[str, Any] = {
        "proxy_addresses": (":0",),
        "proxy_client_by": "token",
        "proxy_client_tokens_file": tokens,
        "proxy_token_file": shared,
        "proxy_access_log": True,
    }
    async with Simulator(CONFIG) as sim, exporting(sim.url, **settings | changes) as exporter:
        listening = [r for r in exporter.log.records if r.getMessage() == "Proxy listening on"]
        await exporter.until(lambda s: ("ollama_models_installed", "") in s)
        yield exporter, f"http://{vars(listening[0])['address']}"


async def ask(url: str, token: str, model: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE, headers=headers) as client:
        body = {"model": model, **QUICK, **body}
        return await client.post(f"{url}/api/generate", json=body)


def test_requests_tokens_waits_and_evictions_land_on_the_client_of_the_token(
    tmp_path: Path,
) -> None:
    async def check() -> None:
        async with session(tmp_path) as (exporter, url):
            for _ in range(2):
                assert (await ask(url, ALICE, "llama3.2")).status_code == 200
            assert (await ask(url, BOB, "mistral", keep_alive=-1)).status_code == 200
            assert (await ask(url, SHARED, "mistral")).status_code == 200
            refused = [await ask(url, each, "llama3.2") for each in ("tok-of-nobody", "")]
            assert [each.status_code for each in refused] == [401, 401]
            samples = await exporter.until(
                lambda s: (
                    s["ollama_client_evictions_caused_total", "client=bob,victim=llama3.2:latest"]
                    == 1
                )
            )
            page = (await exporter.http.get("/metrics")).text
        clients = {key: n for key, n in samples.items() if key[0].startswith("ollama_client_")}

        def of(name: str, labels: str) -> float:
            return clients[f"ollama_client_{name}_total", labels]

        for client, model, requests in (
            ("alice", "llama3.2", 2),
            ("bob", "mistral", 1),
            ("other", "mistral", 1),
        ):
            labels = f"client={client},model={model}:latest"
            assert of("requests", labels) == requests
            assert of("output_tokens", labels) == 3 * requests
            assert of("prompt_tokens", labels) > 0
        for client in ("alice", "bob"):
            assert of("wait_seconds", f"client={client},kind=load") > 0.5
        assert of("wait_seconds", "client=other,kind=load") == 0
        assert of("keep_alive", "class=never,client=bob") == 1
        assert of("keep_alive", "class=never,client=alice") == 0
        caused = {key for key in clients if key[0] == "ollama_client_evictions_caused_total"}
        assert len(caused) == 1
        evicted = [e for e in exporter.events if isinstance(e, Unloaded)]
        assert [e.reason for e in evicted] == [Reason.EVICTED]
        formatter = logging.Formatter()
        told = [f"{formatter.format(r)} {vars(r)}" for r in exporter.log.records]
        for token in (ALICE, BOB, SHARED, "tok-of-nobody"):
            assert token not in page
            assert not any(token in line for line in told)
            assert not any(token in each.text for each in refused)

    asyncio.run(check())


def test_a_configuration_that_is_checked_shows_no_token(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"alice: {ALICE}\n{BOB}\n")
    flags = ("--proxy.client-by=token", f"--proxy.client-tokens-file={tmp_path / 'tokens'}")
    done = CliRunner().invoke(cli, ["check-config", *flags])
    assert done.exit_code != 0
    assert "line 2 is none" in done.output
    assert ALICE not in done.output
    assert BOB not in done.output


def test_a_token_is_not_passed_on_and_a_revoked_one_opens_nothing(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock, errors = tmp_path / "tokens", Clock(), list[str]()
    file.write_text(f"alice: {ALICE}\nbob: {BOB}\n")
    tokens = watched_client_tokens(file, now=clock, on_error=errors.append)
    assert tokens is not None

    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=BRIEF, frontend=Frontend(client_tokens=tokens)) as proxy,
        ):

            async def status(token: str) -> int:
                async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
                    headers = {"Authorization": f"Bearer {token}"}
                    return (await client.get(proxy.url, headers=headers)).status_code

            async def refused(token: str) -> None:
                end = monotonic() + PATIENCE
                while (code := await status(token)) == 200:
                    assert monotonic() < end
                assert code == 401

            assert [await status(x) for x in (ALICE, BOB)] == [200, 200]
            heads = b"".join(bytes(link.received) for link in server.links)
            assert heads.count(b"GET /") == 2
            assert b"uthorization" not in heads
            file.write_text(f"bob: {BOB}\n")
            await refused(ALICE)
            assert await status(BOB) == 200
            file.write_text("")
            await until(lambda: errors)
            clock.at += GRACE
            await refused(BOB)

    run(check())
    assert ALICE not in caplog.text
    assert BOB not in caplog.text


def test_thousands_of_made_up_user_agents_are_one_client() -> None:
    body = b'{"model":"m","prompt":"p"}'
    families = (b"curl/8", b"ollama-python/0.6", b"OpenAI/Python 2")

    def request(agent: bytes) -> bytes:
        fields = b"Host: x\r\nUser-Agent: %b\r\nContent-Length: %d" % (agent, len(body))
        return b"POST /api/generate HTTP/1.1\r\n%b\r\n\r\n%b" % (fields, body)

    async def check() -> None:
        frontend = Frontend(any_host=True, identify=by_user_agent)
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, frontend=frontend) as proxy,
        ):
            agents = [*families, *(b"made-up-%d/1.%d" % (n, n) for n in range(3_000))]

            async def some(part: list[bytes]) -> None:
                async with caller(proxy.port) as client:
                    client.send(b"".join(map(request, part)))
                    whole = len(part) * len(OK)
                    await client.until(lambda: client.end or len(client.received) >= whole)
                    assert len(client.received) == whole

            await asyncio.gather(*(some(agents[at::10]) for at in range(10)))
            name = "ollama_client_requests_total"
            await until(
                lambda: sum(n for key, n in proxy.samples().items() if key[0] == name) == 3_003
            )
            counted = {
                labels.split(",")[0]: n for (x, labels), n in proxy.samples().items() if x == name
            }
            assert counted == {
                "client=curl": 1,
                "client=ollama-python": 1,
                "client=openai": 1,
                "client=other": 3_000,
            }

    asyncio.run(check())
