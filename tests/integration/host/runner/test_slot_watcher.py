# SPDX-License-Identifier: Apache-2.0
"""The watcher of slots against servers on real sockets that answer as runners do, or worse."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from ollama_exporter.host.processes.reader import Process
from ollama_exporter.host.runner.look_schedule import LookTimes
from ollama_exporter.host.runner.runner_client import LARGEST, TIMEOUT, RunnerClient
from ollama_exporter.host.runner.slot_usage import BriefUse, SlotUse
from ollama_exporter.host.runner.slot_watcher import SlotLook, SlotWatcher
from tests.support.exporting import until
from tests.support.paths import DATA
from tests.support.patience import PATIENCE

RAW = DATA / "runner"
JSON = "application/json; charset=utf-8"


@dataclass
class FakeRunner:
    """Answers on 127.0.0.1; counts what it is asked and over how many connections."""

    answers: Mapping[str, tuple[int, bytes]]
    port: int = 0
    asked: list[str] = field(default_factory=list)
    connections: int = 0
    at_once: int = 0
    silent: bool = False
    redirect: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.at_once += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split()[1].decode()
                self.asked.append(path)
                if self.silent:
                    await reader.read()  # until the client gives up
                    break
                status, body = self.answers.get(path, (501, b"{}"))
                more = f"Location: {self.redirect}\r\n" if self.redirect else ""
                head_out = (
                    f"HTTP/1.1 {status} X\r\nServer: llama.cpp\r\nContent-Type: {JSON}\r\n{more}"
                    f"Content-Length: {len(body)}\r\n\r\n"
                )
                writer.write(head_out.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.at_once -= 1
            writer.close()


@dataclass
class Watched:
    watcher: SlotWatcher
    runners: list[FakeRunner]
    processes: dict[int, Process]
    looks: list[SlotLook]
    uses: list[SlotUse | BriefUse]

    async def until(self, condition: Callable[[], object]) -> None:
        await until(condition)


def process(pid: int, port: int) -> Process:
    command = ("/usr/lib/ollama/llama-server", "--model", "/b/sha256-0", "--port", str(port))
    return Process(pid, 1.0, 1.0, 1, (*command, "-np", "2", "-c", "8192"))


@asynccontextmanager
async def watching(*runners: FakeRunner, patience: float = PATIENCE) -> AsyncIterator[Watched]:
    """Watch them. `patience`: for an answer; no busy machine makes one late."""
    loop = asyncio.get_running_loop()
    servers, processes = [], {}
    for number, runner in enumerate(runners, 1):
        server = await asyncio.start_server(runner.serve, "127.0.0.1", 0)
        runner.port = server.sockets[0].getsockname()[1]
        servers.append(server)
        processes[number] = process(number, runner.port)
    looks: list[SlotLook] = []
    uses: list[SlotUse | BriefUse] = []
    watcher = SlotWatcher(
        now=loop.time,
        listed=lambda: [(f"m{pid}", pid) for pid in processes],
        runners=lambda: processes,
        on_look=looks.append,
        on_use=uses.append,
        times=LookTimes(tick=0.01, idle=0.1, busy=0.05),
        connect=lambda: RunnerClient(timeout=patience),
    )
    task = asyncio.create_task(watcher.run())
    try:
        yield Watched(watcher, list(runners), processes, looks, uses)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for server in servers:
            server.close()


def raw(name: str) -> tuple[int, bytes]:
    return 200, (RAW / name).read_bytes()


async def _a_busy_runner() -> None:
    answers = {
        "/slots": raw("slots-one-busy.json"),
        "/metrics": raw("metrics-one-busy.txt"),
        "/props": raw("props.json"),
    }
    async with watching(FakeRunner(answers)) as seen:
        await seen.until(lambda: len(seen.looks) >= 2)
        (sight,) = seen.watcher.sights()
        assert sight.now is not None
        assert (sight.now.slots, sight.now.busy, sight.now.context_used) == (2, 1, 985)
        assert (sight.model, sight.build, sight.command.slots) == ("m1", "b0-unknown", 2)
        totals = dict(seen.watcher.totals())["m1"]
        assert totals.generated_tokens == 957
        assert totals.counters is not None
        assert totals.counters.generated_tokens == 200
        assert [(use.model, use.busy) for use in seen.uses if isinstance(use, SlotUse)] == [
            ("m1", True)
        ]
        assert seen.runners[0].connections == 1  # kept between the looks, and for all questions
        assert seen.runners[0].asked.count("/props") == 1
        seen.processes.clear()  # it exits
        await seen.until(lambda: not seen.watcher.sights())
        assert dict(seen.watcher.totals())["m1"].generated_tokens == 957


def test_a_busy_runner_is_seen_and_its_counters_outlive_it() -> None:
    asyncio.run(_a_busy_runner())


@pytest.mark.parametrize(
    ("status", "body"),
    [(501, b"{}"), (404, b""), (401, b"{}"), (200, b"<html>"), (200, b"x" * 1000)],
    ids=["switched off", "none", "key wanted", "a page", "garbage"],
)
def test_a_runner_without_slots_is_asked_once(
    status: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        other = FakeRunner({"/slots": raw("slots-never-used.json")})
        async with watching(FakeRunner({"/slots": (status, body)}), other) as seen:
            await seen.until(lambda: other.asked.count("/slots") >= 2)
            assert seen.runners[0].asked == ["/slots"]

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert "Runner found" in caplog.text


def test_a_redirect_is_not_followed() -> None:
    async def main() -> None:
        target = FakeRunner({"/slots": raw("slots-never-used.json")})
        elsewhere = await asyncio.start_server(target.serve, "127.0.0.1", 0)
        port = elsewhere.sockets[0].getsockname()[1]
        source = FakeRunner({"/slots": (302, b"")}, redirect=f"http://127.0.0.1:{port}/slots")
        async with watching(source) as seen:
            await seen.until(lambda: len(seen.looks) >= 1)
            assert seen.looks[0].slots is None
        elsewhere.close()
        assert target.asked == []

    asyncio.run(main())


def test_a_silent_runner_is_asked_one_question_at_a_time_and_more_rarely() -> None:
    async def main() -> None:
        silent, other = (
            FakeRunner({}, silent=True),
            FakeRunner({"/slots": raw("slots-never-used.json")}),
        )
        async with watching(silent, other, patience=TIMEOUT) as seen:
            await seen.until(lambda: other.asked.count("/slots") >= 3)
            assert len(silent.asked) <= 2
            assert silent.at_once <= 1

    asyncio.run(main())


def test_an_answer_without_end_is_cut() -> None:
    async def main() -> None:
        body = json.dumps([{"id": 0, "n_ctx": 8, "is_processing": False, "x": "y" * LARGEST}])
        async with watching(FakeRunner({"/slots": (200, body.encode())})) as seen:
            await seen.until(lambda: seen.looks)
            assert seen.looks[0].slots is None
            assert dict(seen.watcher.totals()) == {}

    asyncio.run(main())


OK = b"HTTP/1.1 200 OK\r\n"
FLOODS = {
    "endless body": (OK + b"\r\n", b"x" * 65536),
    "endless chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 8192),
    "endless head": (OK, b"X-A: " + b"y" * 65000 + b"\r\n"),
    "endless promises": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 4096),
    "one gigabyte": (OK + b"Content-Length: 1073741824\r\n\r\n", b"x" * 65536),
    "packed zeros": (OK + b"Content-Encoding: gzip\r\n\r\n", b"\x1f\x8b" + b"\0" * 65536),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 65536),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_another_program_behind_the_port_costs_little_and_one_line(
    flood: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever listens there may send without end: it is cut, asked more rarely, and said once."""
    begin, more = flood
    sent = [0]

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(begin)
            while True:
                writer.write(more)
                await writer.drain()
                sent[-1] += len(more)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent.append(0)
        await answer(reader, writer)
        writer.close()

    async def main() -> None:
        other = FakeRunner({"/slots": raw("slots-never-used.json")})
        async with watching(FakeRunner({}), other, patience=TIMEOUT) as seen:
            hostile = await asyncio.start_server(connected, "127.0.0.1", 0)
            port = hostile.sockets[0].getsockname()[1]
            seen.processes[3] = process(3, port)
            await seen.until(said)
            await seen.until(lambda: other.asked.count("/slots") >= 2)  # others are looked at
            assert [look.slots for look in seen.looks if look.process.pid == 3] != []
            assert all(look.slots is None for look in seen.looks if look.process.pid == 3)
            assert [sight.now for sight in seen.watcher.sights() if sight.model == "m3"] == [None]
            hostile.close()

    def said() -> list[str]:
        return [r.getMessage() for r in caplog.records if getattr(r, "pid", None) == 3]

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert said() == ["Runner found"]
    # what the kernel buffers on both sides comes on top of what is read
    assert max(sent) < LARGEST + (16 << 20)


def test_no_prompt_is_kept_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    prompt = "a prompt that nobody else may read"
    slots = [{"id": 0, "n_ctx": 8, "is_processing": True, "id_task": 1, "prompt": prompt}]
    body = json.dumps([{**slots[0], "params": {"grammar": prompt}, "generated": prompt}])

    async def main() -> None:
        async with watching(FakeRunner({"/slots": (200, body.encode())})) as seen:
            await seen.until(lambda: seen.looks)
            assert seen.looks[0].slots is not None
            assert prompt not in repr((seen.looks, seen.watcher.sights()))

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    assert prompt not in caplog.text
