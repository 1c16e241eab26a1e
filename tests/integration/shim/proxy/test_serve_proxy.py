# SPDX-License-Identifier: Apache-2.0
"""The exporter with its proxy: what polls and requests say together."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from click.testing import CliRunner

from ollama_exporter.cli.main import cli
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import ConfigError, StartError
from ollama_exporter.residency.events import Unloaded
from ollama_exporter.residency.timings import BEHIND_ANOTHER
from ollama_exporter.runtime import run
from ollama_exporter.shim.proxy.build import is_open_to_network, proxy_addresses
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.script import Crash, Restart
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Generation, Host
from tests.support.exporting import FAST, Running, exporting, until
from tests.support.patience import PATIENCE

CATALOGUE = default_catalogue().compressed(20.0)  # loads take more than half a second
SMALL = Host(memory=7 * GIB)  # one model at a time
QUICK = {"prompt": "hi [[n=3 ttft=0.01 tps=100]]"}
LONG = {"prompt": "hi [[n=1000000 ttft=0.01 tps=100]]"}  # something ends it
PROXY: dict[str, Any] = {"proxy_addresses": (":0",)}


class Session:
    """A simulated server, the exporter in front of it, and a client that asks through it."""

    def __init__(self, sim: Simulator, exporter: Running, client: httpx.AsyncClient) -> None:
        self.sim, self.exporter, self.client = sim, exporter, client

    async def ask(self, model: str, path: str = "/api/generate", **body: Any) -> httpx.Response:
        return await self.client.post(path, json={"model": model, **QUICK, **body})

    async def ask_seen(self, model: str, path: str = "/api/generate") -> None:
        """Ask, and wait for a poll that shows the model: on a busy machine, none may."""
        await self.ask(model, path)
        loaded = ("ollama_model_loaded", f"model={model}:latest")
        await self.exporter.until(lambda s: s.get(loaded) == 1)

    @asynccontextmanager
    async def occupied(self, model: str) -> AsyncIterator[None]:
        """Keep a model busy, past the proxy: where one has room, no other is loaded."""
        async with (
            httpx.AsyncClient(base_url=self.sim.url, trust_env=False, timeout=PATIENCE) as past,
            past.stream("POST", "/api/generate", json={"model": model, **LONG}) as answer,
        ):
            chunks = answer.aiter_raw()  # held: its end would close the connection
            await anext(chunks)
            yield
            del chunks

    async def unloaded(self, reason: str) -> Unloaded:
        def found() -> list[Unloaded]:
            events = self.exporter.events
            return [e for e in events if isinstance(e, Unloaded) and e.reason == reason]

        await until(found)
        return found()[0]


@asynccontextmanager
async def session(config: Config, **changes: Any) -> AsyncIterator[Session]:
    async with Simulator(config) as sim, exporting(sim.url, **PROXY | changes) as exporter:
        listening = [r for r in exporter.log.records if r.getMessage() == "Proxy listening on"]
        proxy = f"http://{vars(listening[0])['address']}"
        async with httpx.AsyncClient(base_url=proxy, trust_env=False, timeout=PATIENCE) as client:
            await exporter.until(lambda s: ("ollama_models_installed", "") in s)
            yield Session(sim, exporter, client)


def with_session(
    check: Callable[[Session], Coroutine[Any, Any, None]], config: Config, **changes: Any
) -> None:
    async def main() -> None:
        async with session(config, **changes) as running:
            await check(running)

    asyncio.run(main())


def test_many_who_wait_for_one_load_are_cold_and_the_next_one_is_warm() -> None:
    async def check(it: Session) -> None:
        name = "ollama_requests_waiting_for_load"
        async with it.occupied("mistral"):
            asked = [asyncio.create_task(it.ask("llama3.2")) for _ in range(4)]
            asked.append(asyncio.create_task(it.ask("llama3.2", "/v1/completions")))
            await it.exporter.until(lambda s: s.get((name, "model=llama3.2:latest")) == 5)
        assert {(await each).status_code for each in asked} == {200}
        await it.exporter.until(lambda s: s["ollama_model_loaded", "model=llama3.2:latest"] == 1)
        for path in ("/api/generate", "/v1/completions"):
            await it.ask("llama3.2", path)
        count = "ollama_request_duration_seconds_count"
        samples = await it.exporter.until(
            lambda s: s.get((count, "model=llama3.2:latest,start=warm")) == 2
        )
        assert samples[count, "model=llama3.2:latest,start=cold"] == 5
        assert samples["ollama_cold_starts_total", "model=llama3.2:latest"] == 5
        assert samples["ollama_model_load_seconds_count", "model=llama3.2:latest"] == 1
        assert (count, "model=llama3.2:latest,start=unknown") not in samples
        assert (name, "model=llama3.2:latest") not in samples

    with_session(check, Config(replace(SMALL, recovery=0.1, convergence=0.05), CATALOGUE))


@pytest.mark.parametrize("generation", ["new", "old"])
def test_a_model_that_was_evicted_between_two_requests_is_cold_again(
    generation: Generation,
) -> None:
    async def check(it: Session) -> None:
        for model in ("llama3.2", "mistral", "llama3.2"):
            await it.ask_seen(model, "/v1/completions")
        unloaded = await it.unloaded("evicted")
        assert (unloaded.model.name, unloaded.by) == ("llama3.2:latest", "mistral:latest")
        count = ("ollama_cold_starts_total", "model=llama3.2:latest")
        await it.exporter.until(lambda s: s.get(count) == 2)

    with_session(check, Config(replace(SMALL, generation=generation), CATALOGUE))


def test_stops_and_crashes_are_named_by_what_requests_show() -> None:
    async def check(it: Session) -> None:
        await it.ask_seen("llama3.2")
        await it.client.post("/api/generate", json={"model": "llama3.2", "keep_alive": 0})
        await it.unloaded("stopped")
        long = asyncio.create_task(
            it.client.post("/api/generate", json={"model": "llama3.2", **LONG})
        )
        await it.exporter.until(
            lambda s: s.get(("ollama_model_loaded", "model=llama3.2:latest")) == 1
        )
        await asyncio.sleep(0.1)
        await it.sim.apply(Crash(0, "llama3.2"))
        assert '{"error":' in (await long).text
        await it.ask("llama3.2")
        await it.unloaded("crashed")

    with_session(check, Config(catalogue=CATALOGUE))


def test_a_server_that_goes_away_is_a_502_and_back_again_it_serves() -> None:
    async def check(it: Session) -> None:
        await it.ask("llama3.2")
        down = asyncio.create_task(it.sim.apply(Restart(0, down=PATIENCE)))
        await it.exporter.until(lambda s: s["ollama_up", ""] == 0)
        answer = await it.ask("llama3.2")
        assert answer.status_code == 502
        assert "cannot connect to Ollama" in answer.json()["error"]
        down.cancel()
        await it.sim.apply(Restart(0))
        assert (await it.ask("llama3.2")).status_code == 200
        samples = await it.exporter.samples()
        labels = "model=llama3.2:latest,outcome=upstream_error,route=/api/generate"
        assert samples["ollama_request_failures_total", labels] == 1

    with_session(check, Config(catalogue=CATALOGUE))


def test_the_shutdown_waits_for_responses_for_a_bounded_time() -> None:
    async def main() -> None:
        async with Simulator(Config(catalogue=CATALOGUE)) as sim:
            changes = PROXY | {"proxy_shutdown_timeout": 3.0}
            async with exporting(sim.url, **changes) as exporter:
                listening = [
                    r for r in exporter.log.records if r.getMessage() == "Proxy listening on"
                ]
                url = f"http://{vars(listening[0])['address']}/api/generate"
                client = httpx.AsyncClient(trust_env=False, timeout=PATIENCE)
                short, long = (
                    asyncio.create_task(client.post(url, json={"model": "llama3.2", **body}))
                    for body in ({"prompt": "x [[n=60 tps=100]]"}, LONG)
                )
                await exporter.until(
                    lambda s: s.get(("ollama_model_loaded", "model=llama3.2:latest")) == 1
                )
                await asyncio.sleep(0.5)
            assert (await short).status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                await long
            await client.aclose()

    asyncio.run(main())


# -- settings --------------------------------------------------------------------------------------


def test_an_address_without_a_host_is_loopback() -> None:
    assert proxy_addresses((":11435", "0.0.0.0:1")) == ("127.0.0.1:11435", "0.0.0.0:1")
    assert not is_open_to_network(Settings(proxy_addresses=(":11435", "[::1]:1", "localhost:2")))
    assert is_open_to_network(Settings(proxy_addresses=("0.0.0.0:1",)))
    assert not is_open_to_network(
        Settings(proxy_addresses=("0.0.0.0:1",), proxy_token_file=Path("token"))
    )


def test_a_proxy_beyond_loopback_without_a_token_logs_a_warning() -> None:
    async def main() -> None:
        async with (
            Simulator(Config(catalogue=CATALOGUE)) as sim,
            exporting(sim.url, proxy_addresses=("0.0.0.0:0",)) as exporter,
        ):
            warnings = [r for r in exporter.log.records if r.levelno == logging.WARNING]
            assert [r.getMessage() for r in warnings] == [
                "Proxy is open to the network: set --proxy.token-file"
            ]

    asyncio.run(main())


def test_tls_and_token_of_the_proxy_come_from_files_that_are_read_again(
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    cert, token = tmp_path / "cert.pem", tmp_path / "token"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(cert))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    token.write_text("first\n", encoding="ascii")

    async def main() -> None:
        async with Simulator(Config(catalogue=CATALOGUE)) as sim:
            secured = PROXY | {
                "proxy_tls_cert_file": cert,
                "proxy_token_file": token,
                "proxy_idle_timeout": 1.0,  # tokens are read as often as time is looked at
            }
            async with exporting(sim.url, **secured) as exporter:
                record = next(
                    r for r in exporter.log.records if r.getMessage() == "Proxy listening on"
                )
                port = str(vars(record)["address"]).rpartition(":")[2]
                url = f"https://localhost:{port}/api/version"
                # A connection that is kept may be closed while the next request is on its way.
                once = httpx.Limits(max_keepalive_connections=0)
                async with httpx.AsyncClient(
                    verify=trusting, trust_env=False, limits=once, timeout=PATIENCE
                ) as client:

                    async def status(shown: str) -> int:
                        fields = {"authorization": f"Bearer {shown}"}
                        return (await client.get(url, headers=fields)).status_code

                    assert (await client.get(url)).status_code == 401
                    assert [await status("first"), await status("second")] == [200, 401]
                    token.write_text("second\n", encoding="ascii")
                    async with asyncio.timeout(PATIENCE):
                        while await status("second") != 200:  # noqa: ASYNC110 - a file has no event
                            await asyncio.sleep(0.02)
                    token.unlink()
                    name = (
                        "ollama_exporter_credential_read_errors_total",
                        "setting=proxy.token-file",
                    )
                    await exporter.until(lambda s: s.get(name, 0) > 1)
                    assert await status("second") == 200  # for some seconds: editors do that

    asyncio.run(main())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"proxy_tls_cert_file": Path("/absent.pem")}, "proxy.tls-cert-file"),
        ({"proxy_tls_key_file": Path("/absent.pem")}, "proxy.tls-key-file"),
        ({"proxy_token_file": Path("/absent")}, "proxy.token-file"),
    ],
)
def test_files_that_cannot_be_used_are_named_before_anything_starts(
    changes: dict[str, Any], field: str
) -> None:
    settings = replace(FAST, ollama_url="http://127.0.0.1:9", **PROXY, **changes)
    with pytest.raises(ConfigError, match=field):
        asyncio.run(run(settings, stop=asyncio.Event()))
    flags = [f"--{field}={next(iter(changes.values()))}", "--proxy.listen-address=:0"]
    result = CliRunner().invoke(cli, ["check-config", *flags])
    assert result.exit_code == 2
    assert field in result.output


def test_an_address_that_is_taken_is_named() -> None:
    async def main() -> None:
        async with Simulator(Config(catalogue=CATALOGUE)) as sim:
            port = sim.url.rpartition(":")[2]
            settings = replace(FAST, ollama_url=sim.url, proxy_addresses=(f":{port}",))
            with pytest.raises(StartError, match=r"proxy\.listen-address"):
                await run(settings, stop=asyncio.Event())

    asyncio.run(main())


def test_idle_gaps_are_counted_once_whether_requests_or_polls_show_them() -> None:
    gaps = ("ollama_model_idle_gap_seconds_count", "model=llama3.2:latest")
    inferred = ("ollama_model_idle_gaps_inferred_total", "model=llama3.2:latest")
    expires = ("ollama_model_expires_timestamp_seconds", "model=llama3.2:latest")

    async def check(it: Session) -> None:
        for _ in range(3):
            await it.ask("llama3.2")
        await it.exporter.until(lambda s: s.get(gaps) == 2)
        await asyncio.sleep(
            BEHIND_ANOTHER + 0.5
        )  # what is nearer to a seen request is explained by it
        before = await it.exporter.until(lambda s: s[expires] > 0)
        async with httpx.AsyncClient(
            base_url=it.sim.url, trust_env=False, timeout=PATIENCE
        ) as past_the_proxy:
            await past_the_proxy.post("/api/generate", json={"model": "llama3.2", **QUICK})
        samples = await it.exporter.until(lambda s: s[expires] > before[expires] + 1)
        assert (samples[gaps], samples[inferred]) == (3, 1)
        assert samples["ollama_model_advice_samples", "model=llama3.2:latest"] == 3
        assert samples["ollama_model_advised_keep_alive_seconds", "model=llama3.2:latest"] > 0
        assert samples["ollama_model_last_keep_alive_seconds", "model=llama3.2:latest"] == 300
        load = samples["ollama_model_load_seconds_sum", "model=llama3.2:latest"]
        assert samples["ollama_model_advice_load_seconds", "model=llama3.2:latest"] == load

    with_session(check, Config(catalogue=CATALOGUE))
