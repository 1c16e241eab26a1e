# SPDX-License-Identifier: Apache-2.0
"""`warm` and `measure` as one calls them, on a simulated server."""

import asyncio
import csv
import io
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from ollama_exporter.actions.measure.measure_model import Measurement, MeasurePlan, measure
from ollama_exporter.actions.warm.load_models import (
    WarmOptions,
    WarmOutcome,
    WarmProgress,
    WarmResult,
    warm_up,
)
from ollama_exporter.cli import exit_codes
from ollama_exporter.cli.main import cli
from ollama_exporter.config.target import Target
from ollama_exporter.errors import FailureReason, TargetError
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.control_client import ControlClient, Generated
from ollama_exporter.simulator.faults import AnswerFault
from ollama_exporter.simulator.model_files import GIB, ModelFiles, default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Host, Load, TrueReason, Unload
from tests.support.faultserver import closed_port
from tests.support.patience import PATIENCE
from tests.support.programs import ending
from tests.support.terminals import terminal

CATALOGUE = default_catalogue().compressed(100.0)  # loads of 30 to 750 ms
HOST = Host(memory=24 * GIB, recovery=0.1, convergence=0.05, context=4096)
ENDLESS = "hi [[n=1000000 tps=50]]"  # its client leaves


class Server:
    """A simulated server in a thread: the command line has the main one."""

    def __init__(self, sim: Simulator, loop: asyncio.AbstractEventLoop) -> None:
        self.sim, self.loop = sim, loop
        self.http = httpx.Client(base_url=sim.url, trust_env=False, timeout=PATIENCE)

    def ask(self, model: str, **body: Any) -> None:
        whole = {"model": model, "prompt": "hi [[n=1]]", "stream": False, **body}
        self.http.post("/api/generate", json=whole).raise_for_status()

    def listed(self) -> dict[str, float]:
        """Return each resident model and the seconds that it has."""

        async def look() -> dict[str, float]:
            now = self.sim.server.clock()
            return {each.name: each.expires_at - now for each in self.sim.server.engine.listed()}

        return asyncio.run_coroutine_threadsafe(look(), self.loop).result(PATIENCE)

    def keep_alive(self, name: str) -> float:
        runners = self.sim.server.engine.runners
        return next(runner.session for runner in runners if runner.name == name)

    def loads(self, name: str) -> int:
        return sum(isinstance(x, Load) and x.name == name for x in self.sim.truth)

    def reloads(self) -> list[TrueReason]:
        """Return why models left, stops aside."""
        gone = (x.reason for x in self.sim.truth if isinstance(x, Unload))
        return [reason for reason in gone if reason is not TrueReason.STOPPED]

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, [*arguments, "--host", self.sim.url])


@contextmanager
def serving(host: Host = HOST, catalogue: ModelFiles = CATALOGUE) -> Iterator[Server]:
    ready, stop = threading.Event(), asyncio.Event()
    held: list[Server] = []

    async def main() -> None:
        async with Simulator(Config(host=host, catalogue=catalogue)) as sim:
            held.append(Server(sim, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield held[0]
    finally:
        held[0].http.close()
        held[0].loop.call_soon_threadsafe(stop.set)
        thread.join()


# -- warm --------------------------------------------------------------------------------------


def test_models_are_loaded_one_after_another_and_told() -> None:
    with serving() as server:
        done = server.run("warm", "mistral", "llama3.2", "--keep-alive", "2h")
        assert done.exit_code == 0, done.output
        assert re.search(r"^mistral: loaded in [\d.]+ s$", done.stderr, re.MULTILINE)
        assert done.stdout.splitlines()[0].split() == [
            *("model", "state", "load", "size", "on", "GPU", "context", "expires", "in")
        ]
        assert "100%" in done.stdout
        listed = server.listed()
        assert set(listed) == {"mistral:latest", "llama3.2:latest"}
        assert {server.keep_alive(name) for name in listed} == {7200}
        again = server.run("warm", "mistral", "--keep-alive", "2h", "--json")
        (told,) = json.loads(again.stdout)
        assert (told["outcome"], told["context_tokens"]) == ("warm", 4096)
        assert told["load_seconds"] is None
        assert server.loads("mistral:latest") == 1


def test_a_resident_model_keeps_its_context_and_its_longer_keep_alive() -> None:
    with serving() as server:
        server.ask("mistral", keep_alive="2h", options={"num_ctx": 2048})
        done = server.run("warm", "mistral", "--keep-alive", "10m", "--num-ctx", "8192")
        assert done.exit_code == 0
        assert "kept that long or longer already" in done.stdout
        assert "another one would reload" in done.stdout
        assert (server.loads("mistral:latest"), server.keep_alive("mistral:latest")) == (1, 7200)
        assert server.run("warm", "mistral").exit_code == 0  # its own keep-alive, from now
        assert server.keep_alive("mistral:latest") == 7200
        assert server.run("warm", "mistral", "--keep-alive", "10m", "--shorten").exit_code == 0
        assert (server.loads("mistral:latest"), server.keep_alive("mistral:latest")) == (1, 600)
        assert server.run("warm", "mistral", "--keep-alive", "-1").exit_code == 0
        assert server.keep_alive("mistral:latest") > 1e9
        assert "never" in server.run("warm", "mistral").stdout
        assert server.reloads() == []


def test_a_missing_model_ends_it_before_anything_is_loaded() -> None:
    with serving() as server:
        done = server.run("warm", "mistral", "lama3.2")
        assert done.exit_code == exit_codes.MISSING
        assert done.stderr == "lama3.2: not installed; did you mean llama3.2:latest?\n"
        cloud = server.run("warm", "gpt-oss:120b-cloud")
        assert cloud.exit_code == exit_codes.MISSING
        assert "runs on another host" in cloud.stderr
        assert "zzz: not installed\n" in server.run("warm", "zzz").stderr
        assert server.listed() == {}


def test_who_would_have_to_go_is_said_in_the_server_s_order() -> None:
    with serving() as server:
        server.ask("mistral", keep_alive="1h")
        server.ask("llama3.2", keep_alive="10m")
        done = server.run("warm", "gemma2:27b", "--memory", "24GiB")
        assert done.exit_code == exit_codes.NO_ROOM
        assert "; llama3.2:latest would go at least\n" in done.stdout
        assert set(server.listed()) == {"mistral:latest", "llama3.2:latest"}
        done = server.run("warm", "gemma2:27b", "--memory", "24GiB", "--evict")
        assert done.exit_code == 0
        assert "left for it" in done.stdout
        assert set(server.listed()) == {"gemma2:27b"}
        assert server.run("warm", "mistral", "--memory", "2GiB").exit_code == exit_codes.NO_ROOM


def test_a_timeout_and_a_failed_load_have_codes_of_their_own() -> None:
    with serving(catalogue=default_catalogue()) as server:
        done = server.run("warm", "mistral", "--timeout", "300ms")
        assert done.exit_code == exit_codes.TIMEOUT
        assert "no answer in 0.3 s" in done.stdout
        assert done.output.count("no answer") == 1  # where both streams end in one log
    with serving() as server:
        server.loop.call_soon_threadsafe(
            server.sim.server.engine.fail_next_load, TrueReason.CRASHED
        )
        done = server.run("warm", "mistral", "llama3.2")
        assert done.exit_code == exit_codes.FAILED
        assert "mistral: failed" in done.stdout
        assert set(server.listed()) == {"llama3.2:latest"}


def test_whom_a_load_without_success_drove_out_is_said() -> None:
    """Promise 12."""
    llama = {"llama3.2:latest": CATALOGUE.manifests["llama3.2:latest"]}
    slow = ModelFiles({**default_catalogue().manifests, **llama})
    with serving(replace(HOST, max_loaded=1), slow) as server:
        server.ask("llama3.2", keep_alive="20m")
        # It takes 0.15 s until the other one is gone.
        done = server.run("warm", "mistral", "--timeout", "2s")
        assert done.exit_code == exit_codes.TIMEOUT
        assert "mistral: timeout, no answer in 2 s; llama3.2:latest left for it\n" in done.stdout


def test_a_server_that_is_lost_before_the_last_look_costs_no_other_result() -> None:
    """Promise 12."""

    class Lost(ControlClient):
        looks = 0

        async def ps(self) -> PsAnswer:
            self.looks += 1
            if self.looks == 1 + 2 + 2 + 1:  # at first, around each load, at last
                raise TargetError(FailureReason.REFUSED, "connection refused")
            return await super().ps()

    async def warm(url: str) -> list[WarmResult]:
        client = Lost(Target("test", url))
        try:
            names = ["mistral", "llama3.2"]
            return await warm_up(client, names, WarmOptions(), (), WarmProgress())
        finally:
            await client.aclose()

    with serving() as server:
        first, second = asyncio.run(warm(server.sim.url))
    for name, result in (("mistral", first), ("llama3.2", second)):
        assert (result.name, result.outcome) == (name, WarmOutcome.FAILED)
        assert (result.model, result.left) == (None, None)
        assert result.note == "whether it is still resident is not known: connection refused"


def test_a_model_in_use_is_warm_and_left_alone() -> None:
    with serving() as server:
        server.ask("mistral", keep_alive="10m")
        body = {"model": "mistral", "prompt": ENDLESS}
        with server.http.stream("POST", "/api/generate", json=body) as answer:
            chunks = answer.iter_raw()
            next(chunks)
            done = server.run("warm", "mistral", "--keep-alive", "2h")
            assert done.exit_code == 0
            assert "in use: its keep-alive was left as it is" in done.stdout
            del chunks
        assert server.keep_alive("mistral:latest") == 600


def test_an_embedding_model_and_many_at_once() -> None:
    with serving() as server:
        done = server.run("warm", "nomic-embed-text", "llama3.2", "--parallel")
        assert done.exit_code == 0
        assert set(server.listed()) == {"nomic-embed-text:latest", "llama3.2:latest"}
        assert server.run("warm", "nomic-embed-text", "--keep-alive", "1h").exit_code == 0
        assert server.keep_alive("nomic-embed-text:latest") == 3600
        assert server.reloads() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--keep-alive", "5x"], "must be a duration such as 10m"),
        (["--keep-alive", "soon"], "-1 forever"),
        (["--timeout", "0"], "--timeout: must be a positive duration"),
        (["--memory", "much"], "must be a size such as 24GiB or 8192MiB, not much"),
        (["--wait-for-server=x"], "--wait-for-server: must be a positive duration"),
    ],
)
def test_a_wrong_call_is_said_in_one_line(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(cli, ["warm", "mistral", *arguments, "--host", "127.0.0.1:1"])
    assert done.exit_code == 2
    assert said in done.stderr


def test_in_a_terminal_loads_have_bars_and_a_measurement_says_where_it_is() -> None:
    with serving() as server:
        host = ("--host", server.sim.url)
        with terminal("warm", "mistral", *host, columns=120) as term:
            assert term.process.wait(PATIENCE) == 0
            term.until("mistral", "loaded")
            assert "━" in term.written.decode()
        with terminal("measure", "mistral", "--runs", "1", *host, columns=120) as term:
            assert term.process.wait(PATIENCE) == 0
            term.until("The first call costs")


def test_a_server_that_is_not_there() -> None:
    port = closed_port()
    done = CliRunner().invoke(cli, ["warm", "mistral", "--host", f"127.0.0.1:{port}"])
    assert done.exit_code == exit_codes.FAILED
    assert "refused" in done.stderr
    wait = ["warm", "mistral", "--host", f"127.0.0.1:{port}", "--wait-for-server", "300ms"]
    assert CliRunner().invoke(cli, wait).exit_code == exit_codes.FAILED


def test_a_server_that_comes_is_waited_for() -> None:
    with serving() as server:
        done = server.run("warm", "mistral", "--wait-for-server")
        assert done.exit_code == 0


def test_p9_a_model_that_a_later_one_drives_out_is_not_resident_at_the_last_look() -> None:
    """Promise 12."""
    with serving(replace(HOST, max_loaded=1)) as server:
        done = server.run("warm", "mistral", "llama3.2")
        assert done.exit_code == exit_codes.NO_ROOM
        first, second = done.stdout.splitlines()[1:3]
        assert first.split()[:2] == ["mistral", "evicted"]
        assert second.split()[:2] == ["llama3.2", "loaded"]
        assert "mistral: evicted, it has left memory again\n" in done.stdout
        (told, other) = json.loads(server.run("warm", "mistral", "llama3.2", "--json").stdout)
        assert (told["outcome"], told["expires"], told["size_bytes"]) == ("evicted", None, None)
        assert other["outcome"] == "loaded"


def test_p9_a_keep_alive_that_ends_at_once_is_refused_or_told() -> None:
    with serving() as server:
        done = server.run("warm", "mistral", "--keep-alive", "0")
        assert done.exit_code == 2
        assert "--keep-alive: must be a duration such as" in done.stderr
        assert server.listed() == {}
        done = server.run("warm", "mistral", "--keep-alive", "1ms")
        assert done.exit_code == exit_codes.FAILED
        assert "mistral: expired, it has left memory again" in done.stdout


def test_a_model_may_follow_wait_for_server() -> None:
    with serving() as server:
        done = server.run("warm", "--wait-for-server", "mistral", "--keep-alive", "1h")
        assert done.exit_code == 0, done.output
        assert server.keep_alive("mistral:latest") == 3600


def test_a_name_with_markup_is_printed_as_it_is() -> None:
    """D11: rich took `[/red]` for markup."""
    odd = {"[/red]x:latest": CATALOGUE.manifests["mistral:latest"]}
    with serving(catalogue=ModelFiles({**CATALOGUE.manifests, **odd})) as server:
        done = server.run("warm", "[/red]x")
        assert done.exit_code == 0, done.output
        assert "[/red]x" in done.stdout
        assert server.run("warm", "[/red]y").exit_code == exit_codes.MISSING


# -- measure -----------------------------------------------------------------------------------

EXACT = replace(CATALOGUE.manifests["mistral:latest"].file, load_seconds=2.0, token_rate=20.0)
SCRIPTED = ModelFiles(
    {
        **CATALOGUE.manifests,
        "mistral:latest": replace(CATALOGUE.manifests["mistral:latest"], file=EXACT),
    }
)


def test_the_scripted_times_are_found(tmp_path: Path) -> None:
    """A busy machine only adds to them."""
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Tell me [[n=2 tps=2 ttft=1.0]]", encoding="utf-8")
    with serving(catalogue=SCRIPTED) as server:
        arguments = ["--runs", "1", "--cold-runs", "1", "--prompt-file", str(prompt), "--json"]
        done = server.run("measure", "mistral", *arguments)
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert [row["kind"] for row in told["summary"]] == ["cold", "warm", "cached"]
        for row, load in zip(told["summary"], (2.0, 0.0, 0.0), strict=True):
            least = {name: spread["low"] for name, spread in row["parts"].items()}
            assert least["load"] >= load * 0.99
            assert least["prompt"] >= 0.99
            assert least["generation"] >= 0.99
            assert least["first_token"] >= (load + 1.0) * 0.99
            assert least["total"] >= (load + 2.0) * 0.99
        assert told["verdict"].startswith("The first call costs ")
        assert " of it loading; " in told["verdict"]
        assert server.listed() == {}  # as it was found


def test_the_server_is_left_as_it_was_found() -> None:
    with serving() as server:
        server.ask("mistral", keep_alive="25m", options={"num_ctx": 2048})
        done = server.run("measure", "mistral", "--runs", "1", "--num-predict", "2")
        assert done.exit_code == 0, done.output
        assert "note: mistral:latest has its keep-alive of 25m0s again" in done.stdout
        assert server.keep_alive("mistral:latest") == 1500
        contexts = {x.num_ctx for x in server.sim.truth if isinstance(x, Load)}
        assert contexts == {2048}
        assert server.loads("mistral:latest") == 2
        assert server.reloads() == []


def test_a_pinned_model_is_pinned_again_and_another_context_is_taken_back() -> None:
    with serving() as server:
        server.ask("mistral", keep_alive=-1)
        done = server.run(
            "measure", "mistral", "--runs", "1", "--num-predict", "2", "--num-ctx", "1024"
        )
        assert done.exit_code == 0, done.output
        assert server.keep_alive("mistral:latest") > 1e9
        contexts = [x.num_ctx for x in server.sim.truth if isinstance(x, Load)]
        assert contexts == [4096, 1024, 4096]


def test_whom_it_drives_out_is_brought_back() -> None:
    with serving(replace(HOST, max_loaded=1)) as server:
        server.ask("llama3.2", keep_alive="20m")
        done = server.run("measure", "mistral", "--runs", "1", "--num-predict", "2")
        assert done.exit_code == 0, done.output
        assert "llama3.2:latest was unloaded and is loaded again" in done.stdout
        (seconds,) = server.listed().values()
        assert set(server.listed()) == {"llama3.2:latest"}
        assert 1100 < seconds <= 1200


def test_a_server_in_use_is_not_disturbed_unless_forced() -> None:
    with serving() as server:
        server.ask("mistral", keep_alive="10m")
        body = {"model": "mistral", "prompt": ENDLESS}
        with server.http.stream("POST", "/api/generate", json=body) as answer:
            chunks = answer.iter_raw()
            next(chunks)
            done = server.run("measure", "mistral", "--runs", "1")
            assert done.exit_code == exit_codes.BUSY
            assert done.stderr.endswith("mistral:latest is in use; --force measures anyway\n")
            del chunks
        assert server.loads("mistral:latest") == 1
        assert server.keep_alive("mistral:latest") == 600
        forced = server.run("measure", "llama3.2", "--runs", "1", "--num-predict", "2", "--force")
        assert forced.exit_code == 0


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (signal.SIGTERM, "cold call 2 of 2: loading"),
        (signal.SIGTERM, "warm call 2 of 1000"),
        (signal.SIGINT, "warm call 2 of 1000"),
        (signal.SIGHUP, "cold call 2 of 2: unloading"),
    ],
)
def test_p10_a_signal_leaves_the_server_as_it_was(number: signal.Signals, step: str) -> None:
    """Promise 13."""
    with serving(replace(HOST, max_loaded=1)) as server:
        server.ask("llama3.2", keep_alive="20m")
        arguments = ["--runs", "1000", "--cold-runs", "2"]  # it is at work when the signal comes
        command = [sys.executable, "-m", "ollama_exporter", "measure", "mistral", *arguments]
        with ending(
            subprocess.Popen(
                [*command, "--num-predict", "2", "--host", server.sim.url],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert any(step in line for line in process.stderr)
            process.send_signal(number)
            output = process.stdout.read()
            process.stderr.read()
            assert process.wait(PATIENCE) == 128 + number
        assert output.splitlines()[1].split()[0] == "cold"  # what was measured is not lost
        assert "note: llama3.2:latest was unloaded and is loaded again" in output
        (seconds,) = server.listed().values()
        assert set(server.listed()) == {"llama3.2:latest"}
        assert 1000 < seconds <= 1200


def test_what_ends_it_while_it_restores_the_server_waits_for_that() -> None:
    """Promise 13."""
    plan, measured = MeasurePlan("mistral", "Hi", 1, 1, 2, timeout=PATIENCE), Measurement()

    def on_step(step: str) -> None:
        if step.startswith("restoring"):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    async def main(url: str) -> None:
        client = ControlClient(Target("test", url))
        try:
            await measure(client, plan, measured, on_step)
        finally:
            await client.aclose()

    with serving(replace(HOST, max_loaded=1)) as server:
        server.ask("llama3.2", keep_alive="20m")
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(main(server.sim.url))
        assert set(server.listed()) == {"llama3.2:latest"}
    (note,) = measured.notes
    assert note.startswith("llama3.2:latest was unloaded and is loaded again")


def test_a_server_that_is_lost_for_a_moment_is_left_as_it_was() -> None:
    """Promise 13."""
    plan, measured = MeasurePlan("mistral", "Hi", 50, 1, 2, timeout=PATIENCE), Measurement()

    class Lost(ControlClient):
        calls, away = 0, 0

        async def generate(self, *args: Any, **values: Any) -> Generated:
            self.calls += 1
            if self.calls == 3:
                self.away = 2  # attempts to reach the server
                raise TargetError(FailureReason.RESET, "the connection broke")
            return await super().generate(*args, **values)

        async def ps(self) -> PsAnswer:
            if self.away:
                raise TargetError(FailureReason.REFUSED, "connection refused")
            return await super().ps()

        async def version(self) -> str:
            if self.away:
                self.away -= 1
                raise TargetError(FailureReason.REFUSED, "connection refused")
            return await super().version()

    async def main(url: str) -> None:
        client = Lost(Target("test", url))
        try:
            await measure(client, plan, measured, lambda _step: None)
        finally:
            await client.aclose()

    with serving(replace(HOST, max_loaded=1)) as server:
        server.ask("llama3.2", keep_alive="20m")
        with pytest.raises(TargetError, match="the connection broke"):
            asyncio.run(main(server.sim.url))
        assert set(server.listed()) == {"llama3.2:latest"}
    assert len(measured.samples) == 2
    (note,) = measured.notes
    assert note.startswith("llama3.2:latest was unloaded and is loaded again")


@pytest.mark.parametrize("form", ["--csv", "--markdown", ""])
def test_each_form_has_every_call(form: str) -> None:
    with serving() as server:
        arguments = ["--runs", "2", "--cold-runs", "2", "--num-predict", "3"]
        done = server.run("measure", "llama3.2", *arguments, *filter(None, [form]))
        assert done.exit_code == 0, done.output
        if form == "--csv":
            kinds = [row["kind"] for row in csv.DictReader(io.StringIO(done.stdout))]
            assert kinds == ["cold", "cold", "warm", "cached", "warm", "cached"]
        elif form == "--markdown":
            lines = done.stdout.splitlines()
            assert lines[0].startswith("| call | runs | load | prompt | first | answer |")
            assert [line.split(" ")[1] for line in lines[2:5]] == ["cold", "warm", "cached"]
            assert "to" in lines[2]
        else:
            assert "spread" in done.stdout
            assert "100% on the GPU, context 4096" in done.stdout
            assert "cold call 2 of 2: unloading" in done.stderr


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    blank = tmp_path / "blank"
    blank.write_text(" \n", "utf-8")
    with serving() as server:
        assert server.run("measure", "lama3.2").exit_code == exit_codes.MISSING
        done = server.run("measure", "nomic-embed-text", "--runs", "1")
        assert done.exit_code == exit_codes.FAILED
        assert "cannot generate text (embedding)" in done.stderr
        assert "unloading" not in done.stderr
        for file in ("/nowhere/x", str(blank)):
            done = server.run("measure", "mistral", "--prompt-file", file)
            assert done.exit_code == 2
            assert "--prompt-file: must be a readable text in UTF-8" in done.stderr
        done = server.run("measure", "gemma2:27b", "--runs", "1", "--timeout", "200ms")
        assert done.exit_code == exit_codes.TIMEOUT
        server.sim.faults.fail_next_answer("mistral:latest", AnswerFault(cut_after=2))
        done = server.run("measure", "mistral", "--runs", "1")
        assert done.exit_code == exit_codes.FAILED
        assert server.listed() == {}


# -- names that share a runner -----------------------------------------------------------------


def test_another_name_of_a_resident_model_is_warm() -> None:
    with serving() as server:
        server.http.post("/api/copy", json={"source": "mistral", "destination": "mine"})
        server.ask("mistral", keep_alive="2h", options={"num_ctx": 2048})
        done = server.run("warm", "mine", "--keep-alive", "10m")
        assert done.exit_code == 0
        assert "mine: warm, shares the runner of mistral:latest; kept that long" in done.stdout
        assert (server.loads("mistral:latest"), server.loads("mine:latest")) == (1, 0)
        assert server.keep_alive("mistral:latest") == 7200
        done = server.run("measure", "mine")
        assert done.exit_code == exit_codes.BUSY
        assert done.stderr.endswith("mine shares the runner of mistral:latest: measure that one\n")
