# SPDX-License-Identifier: Apache-2.0
"""`simulate`: a simulated Ollama server, to try clients, proxies and dashboards."""

import asyncio
import ipaddress
import itertools
import platform
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

import click

from ollama_exporter.cli.ending_signals import on_ending_signal
from ollama_exporter.cli.present.terminal import echo
from ollama_exporter.config import parsers
from ollama_exporter.errors import ConfigError, OllamaExporterError
from ollama_exporter.protocol.keepalive import KeepAliveError, parse
from ollama_exporter.simulator.model_files import GIB, default_catalogue
from ollama_exporter.simulator.run_script import Played
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import NEVER, Generation, Host
from ollama_exporter.simulator.workload import WORKLOADS

DEFAULT_LISTEN: Final = "127.0.0.1:11434"


def listen_address(value: str) -> tuple[str, int]:
    """Read HOST:PORT, HOST, :PORT or [IPv6]:PORT, HOST an address. Raises ConfigError."""
    accepted = "accepted: ADDRESS:PORT, such as 127.0.0.1:0"
    try:
        parts = urlsplit(f"//{value}")
        host, port = parts.hostname or "127.0.0.1", parts.port
        address = str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host))
    except ValueError as err:
        raise ConfigError("--listen", value, accepted) from err
    if parts.path or parts.username or parts.query:
        raise ConfigError("--listen", value, accepted)
    return address, 11434 if port is None else port


def memory_size(value: str) -> int:
    """Read a size such as 24GiB or 8192MiB, GiB if no unit is given. Raises ConfigError."""
    return parsers.size("--memory", value)


def keep_alive_seconds(value: str) -> float:
    """Read a keep-alive in the forms of OLLAMA_KEEP_ALIVE. Raises ConfigError."""
    try:
        number = re.fullmatch(r"-?\d+", value.strip())
        seconds = parse(int(value) if number else value)
    except KeepAliveError as err:
        accepted = "accepted: a duration such as 5m, seconds, or -1 forever"
        raise ConfigError("--keep-alive", value, accepted) from err
    assert seconds is not None  # noqa: S101 - only JSON's null has no value
    return min(seconds, NEVER)


@dataclass(frozen=True, slots=True)
class _HostOptions:
    """Options of the command line; None: the workload's host decides."""

    generation: Generation | None
    gpu: bool | None
    memory: str | None
    keep_alive: str | None
    max_loaded: int | None
    parallel: int | None
    endpoint_metrics: bool

    def applied(self, host: Host) -> Host:
        """Return the host with these options. Raises ConfigError."""
        wanted: dict[str, Any] = {
            "generation": self.generation,
            "gpu": self.gpu,
            "memory": None if self.memory is None else memory_size(self.memory),
            "keep_alive": None if self.keep_alive is None else keep_alive_seconds(self.keep_alive),
            "max_loaded": self.max_loaded,
            "parallel": self.parallel,
            "endpoint_metrics": self.endpoint_metrics or None,
        }
        return replace(host, **{key: value for key, value in wanted.items() if value is not None})


@click.command()
@click.option(
    "--listen",
    default=DEFAULT_LISTEN,
    show_default=True,
    metavar="HOST:PORT",
    help="Address to listen on. Port 0: any free port. OLLAMA_HOST is ignored: it is for clients.",
)
@click.option(
    "--workload",
    type=click.Choice(sorted(WORKLOADS)),
    help="Also simulate clients, in a loop. The workload brings its own host, which other options "
    "override.",
)
@click.option(
    "--generation",
    type=click.Choice(["new", "old"]),
    help="old: a model is listed while it loads, as before 0.30.  [default: new]",
)
@click.option("--gpu/--cpu", default=None, help="Whether the host has a GPU.  [default: gpu]")
@click.option(
    "--memory",
    metavar="SIZE",
    help="Memory of the GPU, or of the machine with --cpu: 24GiB, 8192MiB.  [default: 24GiB]",
)
@click.option(
    "--keep-alive",
    metavar="DURATION",
    help="OLLAMA_KEEP_ALIVE of the simulated server: 5m, 300, -1 for forever.  [default: 5m]",
)
@click.option(
    "--max-loaded", type=click.IntRange(1), help="OLLAMA_MAX_LOADED_MODELS.  [default: 3]"
)
@click.option("--parallel", type=click.IntRange(1, 64), help="OLLAMA_NUM_PARALLEL.  [default: 1]")
@click.option(
    "--load-speed",
    type=click.FloatRange(0.01, 1000.0),
    help="How many times faster than from a disk models load.  [default: 1]",
)
@click.option(
    "--faults", is_flag=True, help="Serve /_simulator/fault, which injects faults on demand."
)
@click.option(
    "--processes",
    is_flag=True,
    help="Run processes with the command lines of a real server and its runners, to try "
    "--collector.processes. Linux only.",
)
@click.option(
    "--endpoint-metrics",
    is_flag=True,
    help="Set LLAMA_ARG_ENDPOINT_METRICS=1 in the simulated server: with --processes, its runners "
    "serve exact token counters.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the workload and of ids.")
def command(
    *,
    listen: str,
    workload: str | None,
    load_speed: float | None,
    faults: bool,
    processes: bool,
    seed: int,
    **host_options: Any,  # noqa: ANN401 - the fields of _HostOptions, typed there
) -> None:
    """Run a simulated Ollama server until Ctrl-C.

    It answers Ollama's routes with made-up text at realistic speed, and loads, evicts and expires
    models by the rules of the real scheduler. Nothing is downloaded or computed.
    """
    if processes and platform.system() != "Linux":
        raise ConfigError(
            "--processes", platform.system(), "processes need Linux; leave the option out"
        )
    script = None if workload is None else WORKLOADS[workload](seed)
    catalogue = default_catalogue() if script is None else script.catalogue
    address, port = listen_address(listen)
    config = Config(
        host=_HostOptions(**host_options).applied(Host() if script is None else script.host),
        catalogue=catalogue if load_speed is None else default_catalogue().compressed(load_speed),
        address=address,
        port=port,
        control=faults,
        processes=processes,
        reads_weights=True,
        seed=seed,
    )
    asyncio.run(_run(config, workload))


async def _run(config: Config, workload: str | None) -> None:
    """Serve until a signal."""
    stop = asyncio.Event()
    on_ending_signal(stop.set)
    async with AsyncExitStack() as stack:
        try:
            sim = await stack.enter_async_context(Simulator(config))
        except OSError as err:
            where = f"{config.address}:{config.port}"
            raise OllamaExporterError(f"cannot listen on {where}: {err.strerror or err}") from err
        _print_hints(sim)
        async with asyncio.TaskGroup() as tasks:  # a workload that fails ends the command
            playing = tasks.create_task(_repeat(sim, workload))
            await stop.wait()
            playing.cancel()


async def _repeat(sim: Simulator, workload: str | None) -> None:
    """Play the workload repeatedly, each time with another seed."""
    for seed in itertools.count(sim.config.seed):
        if workload is None:
            return
        await sim.play(WORKLOADS[workload](seed), on_step=_print_step)


def _print_step(played: Played) -> None:
    """Print a line when a step begins or fails."""
    step = played.step
    what = (
        getattr(step, "note", "") or f"{type(step).__name__.lower()} {getattr(step, 'model', '')}"
    )
    if played.phase == "begins":
        echo(f"{played.at:7.1f}s  {what}")
    elif played.error is not None:
        echo(f"{played.at:7.1f}s  {what}: {played.error}")


def _print_hints(sim: Simulator) -> None:
    host = sim.config.host
    kind = "GPU" if host.gpu else "CPU, memory"
    keep = "forever" if host.keep_alive == NEVER else f"{host.keep_alive:g}s"
    echo(f"Simulated Ollama {sim.config.shown_version} listens on {sim.url}")
    echo(f"  host: {kind} of {host.memory / GIB:g} GiB, keep-alive {keep}")
    echo(f"  models: {', '.join(sim.config.catalogue.manifests)}")
    echo("Try:")
    echo(f"  curl {sim.url}/api/ps")
    echo(f"""  curl {sim.url}/api/generate -d '{{"model":"mistral","prompt":"Hello"}}'""")
    echo(f"  ollama-exporter --ollama.url {sim.url}")
    if sim.config.control:
        echo(f"""  curl {sim.url}/_simulator/fault -d '{{"fault":"crash","model":"mistral"}}'""")
    echo("Press Ctrl-C to stop.")
