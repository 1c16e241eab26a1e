# SPDX-License-Identifier: Apache-2.0
"""`demo`: simulated server, its clients and the exporter in one process, told in the terminal.

Exporter and server talk over real sockets, and the clients ask through the exporter's proxy: it
knows what polls, requests and (on Linux) the server's processes show, and nothing else.
"""

import asyncio
import logging
import platform
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ollama_exporter.advice.exporter_source import from_exporter
from ollama_exporter.advice.keep_alive_advice import PROVISIONAL_GAPS, Confidence
from ollama_exporter.advice.report import Finding, Report, report
from ollama_exporter.bounded_client import BoundedClient
from ollama_exporter.cli.durations import at_least
from ollama_exporter.cli.ending_signals import on_ending_signal
from ollama_exporter.cli.present.advice_table import brief
from ollama_exporter.cli.present.demo_score import TrueUnload, score, summary
from ollama_exporter.cli.present.screen import Story
from ollama_exporter.cli.present.terminal import TerminalConsole
from ollama_exporter.cli.present.wait_bars import bar, beside, fitting, words
from ollama_exporter.config.schema import WEB_PORT, Settings
from ollama_exporter.errors import SourceError
from ollama_exporter.net import listen_nearby, spelled
from ollama_exporter.residency.events import Event, View
from ollama_exporter.runtime import Onlookers, run
from ollama_exporter.shim.observation import Observation, Outcome
from ollama_exporter.simulator.run_script import Played, play
from ollama_exporter.simulator.script import Fault
from ollama_exporter.simulator.simulator import Config, Simulator
from ollama_exporter.simulator.state import Unload
from ollama_exporter.simulator.workload import demo

PORT: Final = WEB_PORT
PROXY_PORT: Final = 11435
MOST_REQUESTS: Final = 1000  # that are remembered for the end
LONGEST: Final = 12.0  # seconds that fill a bar while it runs
POLL_INTERVAL: Final = 3.0  # seconds; the default's 15 s, compressed like the keep-alive of 20 s
REFRESH: Final = 0.5  # seconds between two drawings of the table
WITH_PROCESSES: Final = platform.system() == "Linux"
LAST_WORDS: Final = 1.0  # seconds that the exporter has to end in


class Show:
    """The terminal: lines as things happen and, where it can be redrawn, the table below them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.story = Story(time.time())
        self._view: View | None = None
        self._requests: deque[Observation] = deque(maxlen=MOST_REQUESTS)
        self._live: Live | None = None
        self._drawn = False
        self.is_ending = False  # its clients leave then, which is no failure

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Keep the table on the screen meanwhile; plain lines where there is none."""
        if not self.console.is_terminal or self.console.is_dumb_terminal:
            yield
            return
        with Live(console=self.console, auto_refresh=False) as self._live:
            yield
            self.draw()
        self._live = None

    def draw(self) -> None:
        """Draw the table as of now."""
        if self._live is not None and self._view is not None:
            self._drawn = True
            self._live.update(self.story.table(self._view, time.time()), refresh=True)

    def say(self, line: Text | str) -> None:
        """Write one line."""
        self.console.print(line, soft_wrap=True)

    def exporter_saw(self, events: tuple[Event, ...], view: View) -> None:
        """Print what the exporter concludes from a poll."""
        self._view = view
        for event in events:
            self.say(self.story.tell(event))

    def proxy_saw(self, seen: Observation) -> None:
        """Print the parts of a request's wait."""
        self._requests.append(seen)
        if not seen.route.runs or seen.request_fields.is_empty:
            return
        if seen.outcome is Outcome.ANSWERED:
            line = self.story.line(time.time(), "answered", f"{seen.model} ")
            tail = f" {seen.start.value}, {seen.duration:.1f} s: {words(seen)}"
            width = fitting(self.console.width, line.plain, tail)
            line.append_text(bar(seen, longest=max(LONGEST, seen.duration), width=width))
            self.say(line.append(tail))
        elif not (self.is_ending and seen.outcome is Outcome.CLIENT_GONE):
            text = f"{seen.model}: {seen.outcome.value} after {seen.duration:.1f} s"
            self.say(self.story.line(time.time(), "failed", text))

    def clients_did(self, played: Played) -> None:
        """Print what the clients and the faults do."""
        step = played.step
        if played.phase == "begins" and step.note:
            who = "server" if isinstance(step, Fault) else "client"
            self.say(self.story.line(time.time(), who, step.note))

    def end(self, truth: list[TrueUnload], advice: Report | None) -> None:
        """Compare the reasons with what happened, and print the advice."""
        if self._view is not None and not self._drawn:
            self.console.print(self.story.table(self._view, time.time()))
        for told in summary(score(self.story.unloads, truth), self.story.start):
            self.say(told)
        for line in beside(list(self._requests), columns=self.console.width):
            self.say(line)
        if advice is not None and any(_is_sure(f) for f in advice.findings):
            self.say("Which keep_alive is right, according to `ollama-exporter advise`:")
            for part in brief(advice, width=self.console.width):
                self.console.print(part)
        else:
            self.say("This was too short to advise a keep_alive. `ollama-exporter advise` does so")
            self.say(f"once a model has {PROVISIONAL_GAPS} idle gaps, usually within a day.")
        self.say("Next: run `ollama-exporter` beside your Ollama, then open")
        self.say(f"http://127.0.0.1:{PORT}/ in a browser.")


def _is_sure(finding: Finding) -> bool:
    return finding.advice.confidence is not Confidence.RULE_OF_THUMB


def introduction(url: str, port: int, proxy_port: int) -> list[str]:
    """Return the first lines: what is shown, how it differs from reality, where to look."""
    lines = [
        f"simulated Ollama  {url}",
        f"exporter          http://127.0.0.1:{port}/",
        f"its proxy         http://127.0.0.1:{proxy_port} (the clients use it)",
        f"its metrics       http://127.0.0.1:{port}/metrics",
    ]
    if port != PORT:
        lines.append(f"                  (port {PORT} was taken)")
    return [
        *lines,
        "Faster than real life: keep-alive 20 s (not 5 min), loads three times as fast,",
        f"a poll every {POLL_INTERVAL:g} s (not 15 s). Ctrl-C ends it.",
        "Bars: L load, P prompt, A answer, · rest.",
        "",
    ]


async def _play_for_ever(sim: Simulator, show: Show, proxy: str) -> None:
    while True:
        await play(demo(), proxy, apply=sim.apply, on_step=show.clients_did)


async def _redraw(show: Show) -> None:
    while True:
        await asyncio.sleep(REFRESH)
        show.draw()


async def _advice(port: int) -> Report | None:
    """Ask the exporter as the command `advise` does; None: it does not answer any more."""
    with suppress(SourceError):
        return report(
            await asyncio.to_thread(from_exporter, BoundedClient(), f"http://127.0.0.1:{port}")
        )
    return None


async def perform(show: Show, duration: float | None) -> None:
    """Run everything until the duration is over, or a signal comes."""
    script, stop = demo(), asyncio.Event()
    on_ending_signal(stop.set)
    config = Config(
        host=script.host, catalogue=script.catalogue, processes=WITH_PROCESSES, reads_weights=True
    )
    async with Simulator(config) as sim:
        # Kept from here on: another demonstration may be starting.
        web, proxy = (listen_nearby("127.0.0.1", each, field="demo") for each in (PORT, PROXY_PORT))
        port, proxy_port = (int(each.getsockname()[1]) for each in (web, proxy))
        for line in introduction(sim.url, port, proxy_port):
            show.say(line)
        settings = Settings(
            ollama_url=sim.url,
            listen_addresses=(spelled(web),),
            proxy_addresses=(spelled(proxy),),
            poll_interval=POLL_INTERVAL,
            ollama_log="off",  # the simulated server writes none
        )
        onlookers = Onlookers(
            events=show.exporter_saw, requests=show.proxy_saw, looks=show.story.on_look
        )
        exporter = asyncio.create_task(
            run(settings, stop=stop, onlookers=onlookers, opened=([web], [proxy]))
        )
        others = [
            asyncio.create_task(_play_for_ever(sim, show, f"http://{spelled(proxy)}")),
            asyncio.create_task(_redraw(show)),
            asyncio.create_task(stop.wait()),
        ]
        with show.drawing():
            await asyncio.wait(
                [exporter, *others], timeout=duration, return_when=asyncio.FIRST_COMPLETED
            )
        advice = await _advice(port)
        show.is_ending = True
        stop.set()
        for task in others:
            task.cancel()
        await asyncio.wait([exporter, *others], timeout=LAST_WORDS)
        unloads = [x for x in sim.truth if isinstance(x, Unload)]
        show.end([TrueUnload(x.name, x.reason, x.at, x.decided) for x in unloads], advice)
        for task in (exporter, *others):
            if task.done() and not task.cancelled():
                task.result()  # what went wrong is not swallowed
            task.cancel()


@click.command()
@click.option(
    "--duration",
    callback=at_least(1.0),
    metavar="DURATION",
    help="Stop after this time.  [default: at Ctrl-C]",
)
def command(duration: float | None) -> None:
    """Show the exporter at work on a simulated server.

    Clients load, stop, evict, reload and crash models. The exporter polls and proxies over real
    sockets, prints what it concludes, and serves /metrics. The story takes two minutes, then
    begins again.
    """
    console = TerminalConsole()
    logging.basicConfig(level=logging.ERROR)  # what the log says besides, the lines say
    with suppress(KeyboardInterrupt):
        asyncio.run(perform(Show(console), duration))
