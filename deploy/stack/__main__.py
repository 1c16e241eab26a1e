# SPDX-License-Identifier: Apache-2.0
"""`make stack`: a simulated Ollama with clients, the exporter, Prometheus and Alertmanager.

Everything listens on loopback and writes into a temporary folder. Alerts are printed.
"""

import asyncio
import itertools
import logging
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import httpx
import yaml

from deploy.stack.configuration import alertmanager_config, prometheus_config
from deploy.stack.daemons import NotStarted, free_port, running
from deploy.stack.receiver import PATH, Alert, receiver
from ollama_exporter.cli.bundled_files import bundled
from ollama_exporter.config.schema import Settings
from ollama_exporter.net import listen_nearby, spelled
from ollama_exporter.runtime import run
from ollama_exporter.simulator.run_script import play
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.workload import WORKLOADS
from ollama_exporter.web.uvicorn_server import server

INTERVAL: Final = "5s"  # of scrapes and rules
POLL: Final = 3.0  # seconds, as in the demonstration
EXPECTED: Final = ("mistral",)
COLOURS: Final = {"critical": "red", "warning": "yellow", "info": "blue"}
OUR_PORTS: Final = (11487, 11435)  # others where these are in use
OTHER_PORTS: Final = (9090, 9093)  # likewise
# Where releases have the pages, where Debian's package has them, and the API where neither does.
GRAPHS: Final = ("/graph", "/classic/graph", "/api/v1/query?query=ollama_model_loaded")
ALERTS: Final = ("/alerts", "/classic/alerts", "/api/v1/alerts")
PROGRAMS: Final = ("prometheus", "alertmanager")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base URLs of the parts."""

    ollama: str
    exporter: str
    proxy: str
    prometheus: str
    alertmanager: str


@asynccontextmanager
async def serving(on_alert: Callable[[Alert], None]) -> AsyncIterator[str]:
    """Serve the receiver on a free port; yield its URL."""
    sock = socket.create_server(("127.0.0.1", 0))
    web = server(receiver(on_alert))
    task = asyncio.create_task(web.serve(sockets=[sock]))
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}{PATH}"
    finally:
        web.should_exit = True
        await task


@asynccontextmanager
async def exporting(
    settings: Settings, web: socket.socket, proxy: socket.socket
) -> AsyncIterator[asyncio.Task[None]]:
    """Run the exporter on these sockets."""
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings, stop=stop, opened=([web], [proxy])))
    try:
        yield task
    finally:
        stop.set()
        await task


async def clients(sim: Simulator, workload: str, proxy: str) -> None:
    """Send requests through the proxy until cancelled, each round with another seed."""
    for seed in itertools.count():
        await play(WORKLOADS[workload](seed), proxy, apply=sim.apply)


def print_alert(alert: Alert) -> None:
    """Print an alert."""
    severity = alert.labels.get("severity", "")
    mark = "FIRING  " if alert.status == "firing" else "resolved"
    clock = time.strftime("%H:%M:%S")
    head = click.style(f"{mark} {severity:8}", fg=COLOURS.get(severity), bold=mark == "FIRING  ")
    click.echo(f"{clock} {head} {alert.name}: {alert.text}")


async def introduction(at: Addresses) -> list[str]:
    """Return lines that say which URL shows what."""
    graph = await _page(at.prometheus, *GRAPHS)
    alerts = await _page(at.prometheus, *ALERTS)
    routed = await _page(at.alertmanager, "/", "/api/v2/alerts")
    return [
        "Pages to open in a browser:",
        f"  exporter           {at.exporter}/",
        f"  Prometheus         {graph}",
        f"  its alerts         {alerts}",
        f"  Alertmanager       {routed}",
        "For programs:",
        f"  metrics            {at.exporter}/metrics",
        f"  proxy              {at.proxy} (use it like Ollama)",
        f"  simulated Ollama   {at.ollama}/api/ps",
        "Alerts are printed below. Ctrl-C ends everything.",
        "",
    ]


async def _page(base: str, *paths: str) -> str:
    """Return the address of the first path that is served, else of the last one."""
    async with httpx.AsyncClient(trust_env=False, base_url=base, follow_redirects=True) as http:
        for path in paths[:-1]:
            with suppress(httpx.TransportError):
                if (await http.get(path)).status_code == httpx.codes.OK:
                    return base + path
    return base + paths[-1]


def summary(fired: Counter[str]) -> str:
    """Return one line about the alerts that fired."""
    if not fired:
        return "No alert fired."
    names = ", ".join(f"{name} ({count})" for name, count in fired.most_common())
    return f"Alerts that fired: {names}."


async def stack(workload: str, here: Path) -> None:
    """Run everything until SIGINT or SIGTERM. Raises NotStarted."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    script = WORKLOADS[workload]()
    fired: Counter[str] = Counter()

    def on_alert(alert: Alert) -> None:
        print_alert(alert)
        fired.update([alert.name] if alert.status == "firing" else [])

    # Our own two are kept from here on: a demonstration may be starting beside us.
    web, proxied = (listen_nearby("127.0.0.1", port, field="stack") for port in OUR_PORTS)
    others = [f"127.0.0.1:{free_port(port)}" for port in OTHER_PORTS]
    local = [spelled(web), spelled(proxied), *others]
    exporter, proxy, prometheus, alertmanager = local
    async with AsyncExitStack() as parts:
        sim = await parts.enter_async_context(
            Simulator(Config(host=script.host, catalogue=script.catalogue, control=True))
        )
        settings = Settings(
            ollama_url=sim.url,
            listen_addresses=(exporter,),
            proxy_addresses=(proxy,),
            poll_interval=POLL,
            expected_models=EXPECTED,
        )
        at = Addresses(sim.url, *(f"http://{address}" for address in local))
        exporting_task = await parts.enter_async_context(exporting(settings, web, proxied))
        url = await parts.enter_async_context(serving(on_alert))
        for name, address, config in (
            ("alertmanager", alertmanager, alertmanager_config(url)),
            (
                "prometheus",
                prometheus,
                prometheus_config(
                    {},
                    discovered={"ollama": f"http://{exporter}/sd"},
                    rules=bundled("rules"),
                    alertmanager=alertmanager,
                    interval=INTERVAL,
                ),
            ),
        ):
            command = _command(name, here, config)
            log = here / f"{name}.log"
            await parts.enter_async_context(running(command, address=address, log=log))
        for line in await introduction(at):
            click.echo(line)
        asking = asyncio.create_task(clients(sim, workload, at.proxy))
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait([asking, waiting, exporting_task], return_when=asyncio.FIRST_COMPLETED)
        for task in (asking, waiting):
            task.cancel()
        await asyncio.gather(asking, waiting, return_exceptions=True)
        click.echo(summary(fired))
        click.echo("Shutting down")


def _command(name: str, here: Path, config: dict[str, Any]) -> list[str]:
    program = shutil.which(name)
    assert program is not None  # noqa: S101 - main() has looked for it
    file = here / f"{name}.yml"
    file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    more = {
        "prometheus": [f"--storage.tsdb.path={here / 'tsdb'}"],
        "alertmanager": [f"--storage.path={here / 'am'}", "--cluster.listen-address="],
    }
    return [program, f"--config.file={file}", *more[name]]


@click.command()
@click.option(
    "--workload",
    type=click.Choice(sorted(WORKLOADS)),
    default="demo",
    show_default=True,
    help="What the clients do.",
)
def main(workload: str) -> None:
    """Run a simulated Ollama, the exporter, Prometheus and Alertmanager until Ctrl-C."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        names = ", ".join(missing)
        raise click.ClickException(f"{names} not found; `make stack` gets them on Debian")
    logging.basicConfig(level=logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="ollama-stack-") as folder:
        try:
            asyncio.run(stack(workload, Path(folder)))
        except NotStarted as err:
            raise click.ClickException(str(err)) from err


if __name__ == "__main__":
    sys.exit(main())
