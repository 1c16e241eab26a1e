# SPDX-License-Identifier: Apache-2.0
"""The simulated server over real sockets: changing routes, faults, restarts, scripts."""

import asyncio
import contextlib
import gc
import json
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from ollama_exporter.protocol.model_names import is_cloud_name
from ollama_exporter.simulator.http import HttpConnection, HttpExchange
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.run_script import Played, play
from ollama_exporter.simulator.script import (
    Ask,
    Crash,
    OutOfMemory,
    Recreate,
    Restart,
    Script,
    Stop,
)
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host, TrueReason, Unload
from ollama_exporter.simulator.workload_client import Reply, ask
from tests.support.ahead import put_forward, run_ahead
from tests.support.exporting import until
from tests.support.patience import PATIENCE

QUICK = default_catalogue().compressed(500)
HOST = Host(memory=64 * GIB, recovery=0.05, convergence=0.02)
PROMPT = "Tell me [[n=3 tps=500 ttft=0]]"
LONG = "Tell me [[n=500 tps=50 ttft=0]]"


def with_simulator(
    check: Callable[[Simulator], Awaitable[None]], config: Config | None = None
) -> None:
    async def run() -> None:
        wanted = config or Config(host=HOST, catalogue=QUICK, control=True)
        async with Simulator(wanted) as sim, asyncio.timeout(PATIENCE):
            await check(sim)

    asyncio.run(run())


async def generate(sim: Simulator, model: str, prompt: str = PROMPT, **more: Any) -> Reply:
    return await ask(sim.url, "/api/generate", {"model": model, "prompt": prompt} | more)


async def listed(sim: Simulator) -> list[dict[str, Any]]:
    reply = await ask(sim.url, "/api/ps")
    return list(json.loads(reply.tail)["models"])


def is_busy(sim: Simulator) -> bool:
    """Return whether a runner is at a request."""
    return any(runner.refs for runner in sim.server.engine.runners)


async def order(sim: Simulator, **body: Any) -> Reply:
    return await ask(sim.url, "/_simulator/fault", body)


def reasons(sim: Simulator) -> list[TrueReason]:
    return [event.reason for event in sim.truth if isinstance(event, Unload)]


def test_an_alias_is_shown_under_the_first_name() -> None:
    async def check(sim: Simulator) -> None:
        body = {"source": "mistral", "destination": "mine"}
        assert (await ask(sim.url, "/api/copy", body)).status == 200
        await generate(sim, "mine")
        await generate(sim, "mistral")
        assert [entry["name"] for entry in await listed(sim)] == ["mine:latest"]

    with_simulator(check)


def test_a_re_created_model_is_listed_beside_its_old_self() -> None:
    async def check(sim: Simulator) -> None:
        await generate(sim, "mistral")
        assert (
            await ask(sim.url, "/api/create", {"model": "mistral", "from": "mistral"})
        ).status == 200
        await generate(sim, "mistral")
        entries = await listed(sim)
        assert [entry["name"] for entry in entries] == ["mistral:latest"] * 2
        assert len({entry["digest"] for entry in entries}) == 2

    with_simulator(check)


def test_a_derived_model_shares_weights_and_fixes_its_context() -> None:
    async def check(sim: Simulator) -> None:
        body = {"model": "small", "from": "mistral", "parameters": {"num_ctx": 2048}}
        await ask(sim.url, "/api/create", body | {"stream": False})
        await generate(sim, "small")
        assert [entry["context_length"] for entry in await listed(sim)] == [2048]
        await generate(sim, "mistral")  # automatic against explicit
        assert reasons(sim) == [TrueReason.OPTIONS_CHANGED]
        shown = json.loads((await ask(sim.url, "/api/show", {"model": "small"})).tail)
        assert "PARAMETER num_ctx 2048" in shown["modelfile"]

    with_simulator(check)


def test_a_deleted_model_stays_loaded() -> None:
    async def check(sim: Simulator) -> None:
        await generate(sim, "mistral")
        port = int(sim.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"model":"mistral"}'
        head = (
            f"DELETE /api/delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        assert b" 200 " in await reader.readline()
        writer.close()
        assert len(await listed(sim)) == 1
        assert (await generate(sim, "mistral")).status == 404

    with_simulator(check)


@pytest.mark.parametrize(
    "name", ["x:cloud", "x:7B-Cloud", "x-cloud", "host/y-cloud/x", "x:cloudy", "x", "a:b/x-cloud"]
)
def test_the_simulated_server_and_the_exporter_have_one_rule_for_cloud_names(name: str) -> None:
    async def main() -> None:
        async with Simulator(Config()) as sim:
            assert ((await generate(sim, name)).status == 401) == is_cloud_name(name)

    asyncio.run(main())


def test_a_cloud_model_is_in_tags_and_never_runs_here() -> None:
    async def check(sim: Simulator) -> None:
        tags = json.loads((await ask(sim.url, "/api/tags")).tail)["models"]
        assert any(entry.get("remote_host") for entry in tags)
        assert (await generate(sim, "gpt-oss:120b-cloud")).status == 401

    with_simulator(check)


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/chat", {"messages": []}, 400, "model is required"),
        ("/api/generate", {"model": 3}, 400, "cannot unmarshal number"),
        ("/api/generate", {"model": "nomic-embed-text", "prompt": "a"}, 400, "support generate"),
        ("/api/chat", {"model": "nomic-embed-text", "messages": [{}]}, 400, "support chat"),
        ("/api/embed", {"model": "mistral", "input": [3]}, 400, "invalid input type"),
        ("/api/embeddings", {"prompt": "a"}, 400, "model is required"),
        ("/api/show", {}, 400, "model is required"),
        ("/api/show", {"model": "absent"}, 404, "not found"),
        ("/api/copy", {"source": "mistral"}, 400, "destination"),
        ("/api/copy", {"source": "absent", "destination": "b"}, 404, "not found"),
        ("/api/create", {"model": "a"}, 400, "neither"),
        ("/api/create", {"from": "a"}, 400, "invalid"),
        ("/api/pull", {"model": "absent"}, 200, "file does not exist"),
        ("/v1/chat/completions", {"model": "mistral"}, 400, "too short"),
        ("/v1/embeddings", {"model": "nomic-embed-text"}, 400, "invalid input"),
        ("/v1/messages", {"model": "mistral"}, 400, "max_tokens"),
        ("/v1/messages", {"model": "mistral", "max_tokens": 3}, 400, "messages"),
        ("/v1/messages", {"max_tokens": 3}, 400, "model"),
        ("/v1/completions", {"model": "nomic-embed-text", "prompt": "a"}, 400, "support"),
        ("/v1/chat/completions", {"model": "nomic-embed-text", "messages": [{}]}, 400, "support"),
        (
            "/v1/messages",
            {"model": "nomic-embed-text", "max_tokens": 1, "messages": [{}]},
            400,
            "s",
        ),
        ("/v1/responses", {"model": "nomic-embed-text", "input": "a"}, 400, "support"),
        ("/_simulator/fault", {"fault": "odd"}, 400, "is unknown"),
        ("/_simulator/fault", {"fault": "restart", "signal": "SIGINT"}, 400, "SIGTERM"),
    ],
)
def test_a_bad_request_is_refused(path: str, body: dict[str, Any], status: int, text: str) -> None:
    async def check(sim: Simulator) -> None:
        reply = await ask(sim.url, path, body)
        assert reply.status == status
        assert reply.error is not None
        assert text in reply.error

    with_simulator(check)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/pull", {"model": "mistral", "stream": False}),
        ("/api/embed", {"model": "nomic-embed-text", "input": []}),
        ("/api/embeddings", {"model": "nomic-embed-text"}),
        ("/v1/completions", {"model": "mistral", "prompt": PROMPT}),
        ("/v1/completions", {"model": "mistral", "prompt": PROMPT, "stream": True}),
        ("/v1/responses", {"model": "mistral", "input": [{"content": [{"text": PROMPT}]}]}),
        ("/v1/models", None),
        ("/v1/models/mistral", None),
        ("/api/chat", {"model": "mistral", "messages": [{"content": PROMPT}], "stream": False}),
    ],
)
def test_further_forms_are_answered(path: str, body: dict[str, Any] | None) -> None:
    async def check(sim: Simulator) -> None:
        reply = await ask(sim.url, path, body)
        assert (reply.status, reply.error) == (200, None)

    with_simulator(check)


def test_num_predict_ends_an_answer_by_length() -> None:
    async def check(sim: Simulator) -> None:
        reply = await generate(sim, "mistral", "Hello", options={"num_predict": 2}, stream=False)
        record = json.loads(reply.tail)
        assert (record["done_reason"], record["eval_count"]) == ("length", 2)

    with_simulator(check)


def test_two_requests_go_over_one_connection() -> None:
    async def check(sim: Simulator) -> None:
        port = int(sim.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            await reader.readexactly(len(b'{"version":"0.33.0"}'))
        writer.write(b"nonsense\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()

    with_simulator(check)


def test_a_client_that_leaves_in_mid_answer_frees_its_model() -> None:
    async def check(sim: Simulator) -> None:
        await generate(sim, "mistral", keep_alive=0.3)
        left = await ask(
            sim.url,
            "/api/generate",
            {"model": "mistral", "prompt": LONG, "keep_alive": 0.3},
            patience=0.2,
        )
        assert left.error == "client left"
        while await listed(sim):  # noqa: ASYNC110 - a server has no event
            await asyncio.sleep(0.05)
        assert reasons(sim)[-1] is TrueReason.EXPIRED

    with_simulator(check)


def test_a_crash_fails_the_stream_and_the_model_stays_listed() -> None:
    async def check(sim: Simulator) -> None:
        await generate(sim, "mistral")
        running = asyncio.create_task(generate(sim, "mistral", LONG))
        await until(lambda: is_busy(sim))
        await asyncio.sleep(0.1)  # its first tokens are due before
        await order(sim, fault="crash", model="mistral")
        reply = await running
        assert reply.status == 200
        assert reply.error is not None
        assert "GGML_ASSERT" in reply.error
        assert len(await listed(sim)) == 1
        assert (await generate(sim, "mistral")).error is None
        assert reasons(sim) == [TrueReason.CRASHED]

    with_simulator(check)


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        ({"fault": "crash_after", "tokens": 2}, 200, "GGML_ASSERT"),
        ({"fault": "cut", "tokens": 2}, 200, "cut"),
        ({"fault": "out_of_memory"}, 500, "out of memory"),
        ({"fault": "repeat"}, 200, None),
    ],
)
def test_the_next_answer_goes_wrong_as_told(
    fault: dict[str, Any], status: int, error: str | None
) -> None:
    async def check(sim: Simulator) -> None:
        assert (await order(sim, model="mistral", **fault)).status == 200
        reply = await generate(sim, "mistral")
        assert reply.status == status
        assert (reply.error or "").find(error or "") >= 0
        assert b'"done":true' not in reply.tail
        assert b'"done":true' in (await generate(sim, "mistral")).tail

    with_simulator(check)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"content": PROMPT}]}),
        ("/v1/completions", {"prompt": PROMPT}),
        ("/v1/responses", {"input": PROMPT}),
        ("/v1/messages", {"max_tokens": 9, "messages": [{"content": PROMPT}]}),
    ],
)
def test_compatible_streams_swallow_the_error_and_lack_their_end(
    path: str, body: dict[str, Any]
) -> None:
    async def check(sim: Simulator) -> None:
        for tokens, status in ((2, 200), (0, 500)):
            await order(sim, fault="crash_after", model="mistral", tokens=tokens)
            reply = await ask(sim.url, path, {"model": "mistral", "stream": True} | body)
            assert reply.status == status
            for end in (b"[DONE]", b"message_stop", b"response.completed"):
                assert end not in reply.tail

    with_simulator(check)


def test_a_crash_fails_an_embedding() -> None:
    async def check(sim: Simulator) -> None:
        body = {"model": "nomic-embed-text", "input": "word " * 500_000}
        running = asyncio.create_task(ask(sim.url, "/api/embed", body))
        await until(lambda: is_busy(sim))  # for half a minute
        await order(sim, fault="crash", model="nomic-embed-text")
        assert (await running).status == 500

    with_simulator(check)


def test_a_client_may_wait_for_100_and_send_the_next_request_early() -> None:
    async def check(sim: Simulator) -> None:
        port = int(sim.url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"model": "mistral", "prompt": PROMPT, "stream": False}).encode()
        head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(body)
        await asyncio.sleep(0.02)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        both = await reader.read()
        assert both.count(b"HTTP/1.1 200 OK") == 2
        assert both.endswith(b"Ollama is running")
        writer.close()

    with_simulator(check)


def test_a_repeated_token_gives_an_unfinished_record_without_stream() -> None:
    async def check(sim: Simulator) -> None:
        await order(sim, fault="repeat", model="mistral")
        record = json.loads((await generate(sim, "mistral", stream=False)).tail)
        assert record["done"] is False

    with_simulator(check)


def test_loads_fail_as_told() -> None:
    async def check(sim: Simulator) -> None:
        await order(sim, fault="load_error")
        assert (await generate(sim, "mistral")).status == 500
        await order(sim, fault="load_out_of_memory")
        assert (await generate(sim, "mistral")).status == 200  # the retry

    with_simulator(check)


def test_ps_can_be_slow_and_hang_and_recovers() -> None:
    async def check(sim: Simulator) -> None:
        await order(sim, fault="slow_ps", seconds=0.2)
        begun = time.monotonic()
        await listed(sim)
        assert time.monotonic() - begun >= 0.2
        await order(sim, fault="hung_ps")
        assert (await ask(sim.url, "/api/ps", patience=0.4)).error == "client left"
        await order(sim, fault="none")
        assert await listed(sim) == []

    with_simulator(check)


def test_the_clock_of_the_server_may_be_off() -> None:
    async def check(sim: Simulator) -> None:
        await order(sim, fault="clock", seconds=3600)
        await generate(sim, "mistral")
        until = datetime.fromisoformat((await listed(sim))[0]["expires_at"]).timestamp()
        assert 3600 + 290 < until - time.time() < 3600 + 310

    with_simulator(check)


def test_a_restart_breaks_connections_and_empties_the_list() -> None:
    async def check(sim: Simulator) -> None:
        await generate(sim, "mistral")
        running = asyncio.create_task(generate(sim, "mistral", LONG))
        await until(lambda: is_busy(sim))
        await asyncio.sleep(0.1)  # its first tokens are due before
        url = sim.url
        assert (await order(sim, fault="restart", down=PATIENCE)).status == 200
        assert (await running).error is not None
        assert ((await ask(url, "/api/ps")).error or "").startswith("no connection")
        begun = time.monotonic()
        await sim.restart(silent=0.2)
        assert sim.url == url
        assert await listed(sim) == []  # it accepts, and answers when it is ready
        assert time.monotonic() - begun >= 0.2
        assert reasons(sim) == [TrueReason.SERVER_RESTARTED]
        told = json.loads((await ask(url, "/_simulator/truth")).tail)["truth"]
        assert [event["event"] for event in told][-1] == "ServerStarted"

    with_simulator(check)


def test_the_control_routes_are_off_unless_enabled() -> None:
    async def check(sim: Simulator) -> None:
        assert (await order(sim, fault="none")).status == 404
        assert (await ask(sim.url, "/_simulator/truth")).status == 404

    with_simulator(check, Config(host=HOST, catalogue=QUICK))


def test_a_full_queue_answers_503() -> None:
    async def check(sim: Simulator) -> None:
        asking = [asyncio.create_task(generate(sim, "mistral")) for _ in range(3)]
        await until(lambda: len(sim.server.engine._tickets) == len(asking))  # noqa: SLF001 - what waits
        reply = await generate(sim, "llama3.2")
        assert reply.status == 503
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    slow = Config(host=replace(HOST, max_queue=2), catalogue=default_catalogue())
    with_simulator(check, slow)


def test_a_script_is_played_and_told() -> None:
    told: list[Played] = []
    steps = (
        Ask(0.0, "mistral", 3, 500),
        Ask(2.0, "nomic-embed-text", 1, via="embed"),
        Crash(4.0, "mistral"),
        Ask(6.0, "mistral", 3, 500, via="chat"),
        OutOfMemory(8.0, "mistral"),
        Ask(10.0, "mistral", 3, 500, via="v1", note="out of memory"),
        Recreate(12.0, "mistral"),
        Ask(14.0, "mistral", 0),
        Stop(16.0, "mistral"),
        Ask(18.0, "qwen2.5:7b", 600, leave_after=0.1),
        Restart(20.0, down=0.1),
        Ask(22.0, "qwen2.5:7b", 600, note="cut off by the end"),
    )

    async def idling() -> None:
        """Let time pass faster while nothing is under way: each step ends before the next."""
        while True:
            await asyncio.sleep(0.01)
            if len(told) % 2 == 0:  # what has begun has ended
                put_forward(0.2)

    async def check() -> None:
        async with Simulator(Config(host=HOST, catalogue=QUICK, control=True)) as sim:
            faster = asyncio.create_task(idling())
            await sim.play(Script("all", steps, 22.3), on_step=told.append)
            faster.cancel()
            assert {TrueReason.CRASHED, TrueReason.OUT_OF_MEMORY, TrueReason.STOPPED} <= set(
                reasons(sim)
            )
            await play(Script("foreign", (Crash(0, "mistral"),), 0.01), sim.url)  # left out

    run_ahead(check())
    assert len([one for one in told if one.phase == "begins"]) == len(steps)
    assert "client left" in [one.error for one in told]


def test_it_is_used_inside_its_block_only() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        _ = Simulator().server


@pytest.mark.parametrize("turns", range(5))
def test_a_connection_that_is_accepted_as_it_ends_is_closed(turns: int) -> None:
    """A later test would be blamed for one that nobody closes."""

    async def main() -> None:
        with contextlib.ExitStack() as clients:
            async with Simulator(Config(host=HOST, catalogue=QUICK)) as sim:
                address = "127.0.0.1", int(sim.url.rsplit(":", 1)[1])
                made = [socket.create_connection(address, PATIENCE) for _ in range(3)]
                opened = [clients.enter_context(each) for each in made]
                for _ in range(turns):  # of the loop, which accepts and serves them
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
            for client in opened:
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.to_thread(client.recv, 1) == b""

    asyncio.run(main())
    gc.collect()


def test_a_handler_that_breaks_as_the_server_ends_is_not_reported_as_an_error() -> None:
    async def breaks(_: HttpExchange) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as err:
            raise ConnectionResetError from err

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with contextlib.suppress(asyncio.CancelledError):
            await HttpConnection(reader, writer, breaks, time.time).run()

    async def main() -> list[str]:
        reported: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["message"]))
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await begun.wait()
        [task] = serving
        assert task is not None
        task.cancel()
        await asyncio.wait({task})
        writer.close()
        server.close()
        gc.collect()
        return reported

    begun, serving = asyncio.Event(), list[asyncio.Task[None] | None]()
    assert asyncio.run(main()) == []
