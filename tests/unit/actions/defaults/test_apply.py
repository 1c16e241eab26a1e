# SPDX-License-Identifier: Apache-2.0
"""The proxy's defaults on the virtual clock: what the header promises comes true."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from ollama_exporter.actions.defaults.apply import RETRY_WAITS
from ollama_exporter.actions.defaults.defaults_section import Rule
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.errors import RequestError
from ollama_exporter.simulator.model_files import GIB
from ollama_exporter.simulator.state import Host, TrueReason
from tests.support.exporting import tasks_of_package
from tests.support.memory_file import MemoryFile
from tests.support.virtual import run_virtually
from tests.support.virtual_ollama import (
    HOST,
    VirtualExporter,
    VirtualOllama,
    clock,
    virtual_exporter,
)

V1 = "/v1/chat/completions"
MISTRAL = "model=mistral:latest"
RENEWALS = ("ollama_keep_alive_renewals_total", f"by=defaults,{MISTRAL}")
PROMISED = "keep_alive>=10m0s afterwards"
Check = Callable[[VirtualOllama, VirtualExporter], Awaitable[None]]


def with_rules(check: Check, *rules: Rule, host: Host = HOST) -> None:
    async def main() -> None:
        ollama = VirtualOllama(host)
        async with virtual_exporter(ollama, defaults=rules) as exporter:
            await asyncio.sleep(10)  # the names are resolved
            await check(ollama, exporter)
            await asyncio.sleep(20)
            assert exporter.warnings() == []

    run_virtually(main())


def renewals(exporter: VirtualExporter) -> float:
    return exporter.samples().get(RENEWALS, 0.0)


def test_one_renewal_serves_many_requests() -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        for _ in range(20):
            assert await exporter.ask(path=V1) == PROMISED
            await asyncio.sleep(3)
        assert ollama.keep_alive() == 600
        assert renewals(exporter) == 1
        assert len(ollama.loads()) == 1

    with_rules(check, Rule("*", keep_alive=600.0))


@pytest.mark.parametrize(
    ("failure", "retried_for"),
    [
        (RequestError(500, "no"), RETRY_WAITS[0] + RETRY_WAITS[1]),
        (ZeroDivisionError("a defect of ours"), 0.0),
    ],
    ids=["refused", "internal"],
)
def test_a_promise_that_cannot_be_kept_is_logged_once(
    failure: Exception, retried_for: float
) -> None:
    async def main() -> None:
        ollama = VirtualOllama()
        rules = (Rule("*", keep_alive=600.0),)
        async with virtual_exporter(ollama, defaults=rules) as exporter:
            await asyncio.sleep(10)
            ollama.failure = failure
            assert await exporter.ask(path=V1) == PROMISED
            await asyncio.sleep(retried_for)
            assert exporter.warnings() == []
            await asyncio.sleep(60)
            assert exporter.warnings() == ["Keep-alive could not be set"]
            assert (ollama.keep_alive(), renewals(exporter)) == (300, 0)
            ollama.failure = None
            assert await exporter.ask(path=V1) == PROMISED
            await asyncio.sleep(60)
            assert (ollama.keep_alive(), renewals(exporter)) == (600, 1)

    run_virtually(main())


@pytest.mark.parametrize("gap", [0.1, 1.0, 3.0, 10.0])
def test_p1_a_runner_that_is_loaded_anew_keeps_the_promise_as_well(gap: float) -> None:
    """Promise 4."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        assert await exporter.ask(path=V1) == PROMISED
        await asyncio.sleep(3)
        assert ollama.keep_alive() == 600
        await ollama.stop()
        await asyncio.sleep(gap)
        assert await exporter.ask(path=V1) == PROMISED
        await asyncio.sleep(8)
        assert ollama.keep_alive() == 600
        await exporter.ask(options={"num_ctx": 1024})  # a reload by other options
        await asyncio.sleep(8)
        assert ollama.keep_alive() == 600
        ollama.crash()
        await exporter.ask(path=V1)
        await asyncio.sleep(8)
        assert ollama.keep_alive() == 600

    with_rules(check, Rule("*", keep_alive=600.0))


def test_p1_models_that_evict_each_other_keep_their_promises() -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        for model in ("mistral", "llama3.2", "mistral", "llama3.2", "mistral"):
            assert await exporter.ask(model, path=V1) == PROMISED
            await asyncio.sleep(4)
            assert ollama.keep_alive(model) == 600

    with_rules(check, Rule("*", keep_alive=600.0), host=replace(HOST, max_loaded=1))


def test_p5_the_longest_wish_is_kept_when_requests_end_together() -> None:
    """Promise 4."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await ollama.ask(keep_alive="5m")
        await asyncio.sleep(3)  # a poll has listed it
        first = await exporter.ask()
        second = await exporter.ask(keep_alive=-1)
        assert first == PROMISED
        assert second == "keep_alive<=4h0m0s, keep_alive>=4h0m0s afterwards"
        await asyncio.sleep(15)
        assert ollama.keep_alive() == 4 * 3600
        await exporter.ask()
        await asyncio.sleep(15)
        assert ollama.keep_alive() == 4 * 3600

    with_rules(check, Rule("*", keep_alive=600.0, max_keep_alive=4 * 3600.0))


def test_p5_a_promise_outlasts_a_request_with_a_keep_alive_of_its_own() -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await ollama.ask()
        await asyncio.sleep(3)
        long = asyncio.create_task(exporter.ask(keep_alive="5m", prompt="[[n=20 tps=1]]"))
        await asyncio.sleep(1)
        assert await exporter.ask(path=V1) == PROMISED
        await long
        await asyncio.sleep(10)
        assert ollama.keep_alive() == 600

    with_rules(check, Rule("*", keep_alive=600.0))


def test_a_promise_is_kept_when_a_client_past_the_proxy_is_done() -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await ollama.ask()
        await asyncio.sleep(3)
        long = asyncio.create_task(ollama.ask(prompt="[[n=100 tps=1]]"))
        await asyncio.sleep(1)
        assert await exporter.ask(path=V1) == PROMISED
        await long
        await asyncio.sleep(15)
        assert ollama.keep_alive() == 600

    with_rules(check, Rule("*", keep_alive=600.0))


def test_a_request_that_ends_while_the_exporter_does_starts_no_renewal() -> None:
    async def main() -> None:
        async with virtual_exporter(VirtualOllama(), defaults=(Rule("*", keep_alive=600.0),)) as it:
            await asyncio.sleep(10)
            late = asyncio.create_task(it.ask(path=V1))  # a cold start
            await asyncio.sleep(0.1)
        await late
        assert tasks_of_package() == []

    run_virtually(main())


def test_a_stop_withdraws_what_was_promised() -> None:
    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await exporter.ask(path=V1)
        await exporter.ask(prompt="", keep_alive=0)
        await asyncio.sleep(30)
        assert ollama.runner() is None
        assert ollama.reasons() == [TrueReason.STOPPED]
        assert renewals(exporter) == 0

    with_rules(check, Rule("*", keep_alive=600.0))


@pytest.mark.parametrize("longer", ["2h", -1])
def test_a_longer_keep_alive_is_never_replaced(longer: str | int) -> None:
    """Promise 2."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await ollama.ask(keep_alive=longer)
        await asyncio.sleep(3)
        before = ollama.keep_alive()
        assert await exporter.ask() == PROMISED
        await exporter.ask(path=V1)
        await asyncio.sleep(15)
        assert ollama.keep_alive() == before
        assert renewals(exporter) == 0

    with_rules(check, Rule("*", keep_alive=600.0))


def test_p3_a_context_above_the_model_s_maximum_reloads_nothing() -> None:
    """Promise 6."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        assert await exporter.ask("llama3.2") == "num_ctx=131072"
        await asyncio.sleep(3)
        for _ in range(3):
            assert await exporter.ask("llama3.2") == "num_ctx=131072"
            await asyncio.sleep(3)
        assert len(ollama.loads()) == 1
        said = [vars(r) for r in exporter.log.records if "above the model's" in r.getMessage()]
        assert {(v["model"], v["num_ctx"], v["becomes"]) for v in said} >= {
            ("llama3.2:latest", 200_000, 131_072)
        }
        assert len(said) == len({v["model"] for v in said})

    big = replace(HOST, memory=46 * GIB)
    with_rules(check, Rule("*", num_ctx=200_000), host=big)


def test_p4_a_cap_holds_although_the_model_is_resident_with_another_context() -> None:
    """Promise 5."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await ollama.ask(options={"num_ctx": 4096})
        await asyncio.sleep(3)
        assert await exporter.ask(options={"num_ctx": 32768}) == "num_ctx=8192"
        assert [load.num_ctx for load in ollama.loads()] == [4096, 8192]
        await ollama.ask(options={"num_ctx": 16384})
        await asyncio.sleep(3)
        assert await exporter.ask(options={"num_ctx": 16384}) == ""  # it would be a reload
        assert [load.num_ctx for load in ollama.loads()] == [4096, 8192, 16384]
        change = ("ollama_request_changes_total", f"change=num_ctx_cap,{MISTRAL}")
        assert exporter.samples()[change] == 1

    with_rules(check, Rule("*", max_num_ctx=8192))


def test_a_renewal_carries_the_options_of_the_runner_and_not_of_an_earlier_one() -> None:
    """Promise 1."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await exporter.ask(options={"num_batch": 64}, keep_alive="1m")
        await asyncio.sleep(3)
        await ollama.stop()
        await asyncio.sleep(3)
        await ollama.ask(keep_alive="1m")  # past the proxy, with the server's own num_batch
        await asyncio.sleep(3)
        await exporter.ask(path=V1)
        await asyncio.sleep(15)
        assert len(ollama.loads()) == 2
        assert ollama.keep_alive() == 600

    with_rules(check, Rule("*", keep_alive=600.0))


@pytest.mark.parametrize("name", ["mistral", "mine"])
def test_a_renewal_after_a_restart_or_for_another_name_carries_the_options(name: str) -> None:
    """Promise 1. The names share their weights."""

    async def main() -> None:
        ollama, file, rules = VirtualOllama(), MemoryFile(), (Rule("*", keep_alive=600.0),)
        found = ollama.library.find("mistral")
        assert found is not None
        ollama.library.copy(found[1], "mine", clock())
        async with virtual_exporter(ollama, defaults=rules, state_file=file) as exporter:
            await exporter.ask(name, options={"num_batch": 64}, keep_alive="1m")
            await asyncio.sleep(3)
        keep_warm = KeepWarm((WarmModel("mistral:latest", 600.0),))
        async with virtual_exporter(ollama, keep_warm=keep_warm, state_file=file):
            await asyncio.sleep(20)
        assert len(ollama.loads()) == 1
        assert ollama.keep_alive() == 600

    run_virtually(main())


def test_before_the_first_poll_a_model_may_be_resident() -> None:
    """Promises 2 and 6. A default in the request could shorten its life, or reload it."""

    async def main() -> None:
        ollama, rule = VirtualOllama(), Rule("*", keep_alive=600.0, num_ctx=2048)
        await ollama.ask(keep_alive="2h")
        async with virtual_exporter(ollama, defaults=(rule,)) as exporter:
            assert await exporter.ask() == PROMISED
            await asyncio.sleep(20)
        assert len(ollama.loads()) == 1
        assert ollama.keep_alive() == 7200

    run_virtually(main())


def test_a_busy_model_that_was_told_to_go_is_not_kept() -> None:
    """Promise 3. A keep_alive that reaches a busy victim keeps it, and all loads wait."""

    async def check(ollama: VirtualOllama, exporter: VirtualExporter) -> None:
        await ollama.ask()
        await asyncio.sleep(3)
        busy = asyncio.create_task(exporter.ask(prompt="[[n=60 tps=1]]"))
        await asyncio.sleep(1)
        waits = asyncio.create_task(exporter.ask("qwen2.5:7b"))
        await asyncio.sleep(1)
        await exporter.ask()  # of the victim, without keep_alive
        await exporter.ask(path=V1)
        async with asyncio.timeout(120):
            await asyncio.gather(busy, waits)

    with_rules(check, Rule("*", keep_alive=600.0), host=replace(HOST, memory=7 * GIB))
