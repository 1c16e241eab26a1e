# SPDX-License-Identifier: Apache-2.0
"""`top` in a pseudo-terminal, beside a real exporter on a simulated server."""

import asyncio
import json
import signal
import subprocess
from typing import Final

from ollama_exporter.simulator.model_files import default_catalogue
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.workload_client import ask
from tests.support.exporting import exporting
from tests.support.fleets import fleet
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.rawserver import OK, answers, rawserver
from tests.support.terminals import PROGRAM, Terminal, terminal

TOP: Final = [*PROGRAM, "top"]
MODEL: Final = "llama3.2:latest"
QUICK: Final = Config(catalogue=default_catalogue().compressed(50))
NOBODY: Final = "http://127.0.0.1:9"


def test_it_shows_models_and_their_story_and_leaves_the_terminal_as_it_was() -> None:
    def watch(url: str) -> None:
        with terminal("top", "--url", url) as term:
            term.until("Ollama 0.33.0", MODEL, "UNLOAD IN", "q quit", f"{MODEL}: loaded")
            term.type("s")
            term.until("s sort: name")
            term.type("/mist\r")
            term.until("no such model")
            term.type("\x1b")
            term.until(MODEL, "s sort: name")
            term.type("\x1b[B\r")
            term.until("keep-alive", "Esc back")
            term.type("?")
            term.until("1 goes first if another model needs memory")
            term.resize(200, 60)
            term.process.send_signal(signal.SIGWINCH)
            assert len(term.until("q quit").splitlines()[0]) == 200
            term.type("?q")
            assert term.left() == 0

    async def story() -> None:
        async with Simulator(QUICK) as sim, exporting(sim.url, ollama_timeout=PATIENCE) as exporter:
            await ask(
                sim.url, "/api/generate", {"model": MODEL, "prompt": "[[n=1]]"}, patience=PATIENCE
            )
            await exporter.until(lambda s: s["ollama_model_loaded", f"model={MODEL}"] == 1)
            await asyncio.to_thread(watch, f"http://{exporter.address}")

    asyncio.run(story())


def test_without_colours_and_after_ctrl_c_sigterm_and_sighup() -> None:
    def watch(url: str, server: str) -> None:
        with terminal("top", "--url", url, columns=200, rows=60, NO_COLOR="1") as term:
            term.until("Ollama 0.33.0", "nothing is in memory")
            assert not [code for code in COLOURS if code in term.written]
            term.type("\x03")
            assert term.left() == 0
        with terminal("top", "--url", url) as term:
            term.until("nothing is in memory")
            term.process.terminate()
            assert term.left() == 0
        # Without --url it runs an exporter of its own, for which SIGHUP is no reload.
        with terminal("top", "--ollama.url", server) as term:
            term.until("nothing is in memory")
            term.process.send_signal(signal.SIGHUP)
            assert term.left() == 0
        with terminal("top", "--url", url, "--once") as term:
            assert term.process.wait(PATIENCE) == 0
            term.until("Ollama 0.33.0", "nothing is in memory")
            assert "q quit" not in "\n".join(term.screen.display)

    async def story() -> None:
        async with Simulator(QUICK) as sim, exporting(sim.url, ollama_timeout=PATIENCE) as exporter:
            await asyncio.to_thread(watch, f"http://{exporter.address}", sim.url)

    asyncio.run(story())


COLOURS: Final = [b"\x1b[%dm" % code for code in (*range(30, 38), *range(90, 98))]


def test_an_exporter_that_goes_away_is_said_and_found_again() -> None:
    async def story() -> None:
        async with Simulator(QUICK) as sim:
            address = f"127.0.0.1:{free_port()}"
            there = {"listen_addresses": (address,), "ollama_timeout": PATIENCE}
            async with exporting(sim.url, **there):
                shown = Terminal(
                    [*TOP, "--url", f"http://{address}", "--interval", "0.2"], columns=80, rows=24
                )
                try:
                    await asyncio.to_thread(shown.until, "Ollama 0.33.0")
                except BaseException:
                    shown.close()
                    raise
            try:
                await asyncio.to_thread(shown.until, "! Cannot connect", "Ollama 0.33.0")
                async with exporting(sim.url, **there):
                    await asyncio.to_thread(shown.until_gone, "! Cannot")
                shown.type("q")
                assert await asyncio.to_thread(shown.left) == 0
            finally:
                shown.close()

    asyncio.run(story())


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOP, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def test_of_several_servers_it_lists_them_and_opens_one() -> None:
    def watch(url: str) -> None:
        with terminal("top", "--url", url, "--interval", "0.2") as term:
            term.until("2 of 2 servers answer", "SERVER", "one ", MODEL, "two ", "Enter models")
            term.type("/tw\r")
            term.until_gone(MODEL)
            term.type("\x1b")
            term.until("one ")
            term.type("\x1b[B\r")
            term.until("one: Ollama 0.33.0", MODEL, "UNLOAD IN", "Esc servers")
            term.type("\x1b")
            term.until("2 of 2 servers answer", "> one")
            term.type("?")
            term.until("choose a server")
            term.type("?q")
            assert term.left() == 0
        with terminal("top", "--url", url, "--target", "two", "--interval", "0.2") as term:
            term.until("two: Ollama 0.33.0", "nothing is in memory", "Esc servers")
            term.type("\x1b")
            term.until("2 of 2 servers answer", "> two")
            term.type("q")
            assert term.left() == 0
        head, one, two = run("--url", url).stdout.splitlines()
        assert head.split("\t")[:2] == ["target", "up"]
        assert (one.split("\t")[:2], one.split("\t")[5]) == (["one", "1"], MODEL)
        assert two.split("\t") == ["two", "1", "0.33.0", "0", "0", "", ""]
        listed = json.loads(run("--url", url, "--json").stdout)["targets"]
        assert [target["name"] for target in listed] == ["one", "two"]
        assert "name a target" in run("--url", url, "--target", "three", "--once").stderr

    async def story() -> None:
        async with Simulator(QUICK) as one, Simulator(QUICK) as two:
            await ask(
                one.url, "/api/generate", {"model": MODEL, "keep_alive": "50m"}, patience=PATIENCE
            )
            named = {"one": one.url, "two": two.url}
            async with fleet(named, ollama_timeout=PATIENCE) as exporter:
                for name in named:
                    await exporter.until(name, lambda s: s["ollama_up", ""] == 1)
                await asyncio.to_thread(watch, f"http://{exporter.address}")

    asyncio.run(story())


def test_into_a_pipe_it_writes_values_or_json() -> None:
    async def story() -> None:
        async with Simulator(QUICK) as sim, exporting(sim.url, ollama_timeout=PATIENCE) as exporter:
            await ask(
                sim.url, "/api/generate", {"model": MODEL, "prompt": "[[n=1]]"}, patience=PATIENCE
            )
            await exporter.until(lambda s: s["ollama_model_loaded", f"model={MODEL}"] == 1)
            url = f"http://{exporter.address}"
            for more in ([], ["--once"]):
                done = await asyncio.to_thread(run, "--url", url, *more)
                head, line = done.stdout.splitlines()
                assert head.split("\t")[0] == "model"
                assert line.split("\t")[0] == MODEL
                assert "\x1b" not in done.stdout
            done = await asyncio.to_thread(run, "--url", url, "--json")
            assert json.loads(done.stdout)["status"]["models"][0]["name"] == MODEL
            # Of a server that is named it asks no exporter that happens to run on this machine.
            done = await asyncio.to_thread(run, "--once", "--ollama.url", sim.url)
            assert MODEL in done.stdout

    asyncio.run(story())


def test_a_server_and_an_exporter_are_one_too_many() -> None:
    for other in (("--url", NOBODY), ("--target", "gpu-1")):
        done = run("--once", "--ollama.url", NOBODY, *other)
        assert done.returncode == 2
        assert "give one" in done.stderr


def test_no_exporter_is_one_line_that_says_what_to_do() -> None:
    done = run("--url", NOBODY, "--once")
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert f"Cannot connect to {NOBODY}" in line
    assert "Without --url" in line


def test_what_is_no_exporter_is_named_with_what_to_do() -> None:
    async def story() -> None:
        async with Simulator(QUICK) as sim:  # a server, and no exporter
            done = await asyncio.to_thread(run, "--url", sim.url, "--once")
            assert "HTTP status 404: it is no exporter" in done.stderr
        async with rawserver(answers(OK)) as server:
            done = await asyncio.to_thread(run, "--url", server.url, "--once")
            assert done.returncode != 0
            assert f"{server.url} is no status of an exporter" in done.stderr

    asyncio.run(story())
