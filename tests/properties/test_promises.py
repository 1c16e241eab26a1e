# SPDX-License-Identifier: Apache-2.0
"""What the actions promise, against random clients, operators, machines and policies.

`docs/policy.md` numbers the promises, and `tests/support/witness.py` holds the exporter to them.
Each story has a theme, which makes what it looks for likely. `PROMISES_TIMES=10 make test
ARGS=tests/properties/test_promises.py` tells ten times as many. A seed that fails, fails again.
"""

import asyncio
import json
import logging
import os
import random
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import pytest
from msgspec import structs

from ollama_exporter.actions.defaults.defaults_section import Rule
from ollama_exporter.actions.keep_warm.keep_warm_section import OFF, KeepWarm, WarmModel
from ollama_exporter.actions.keep_warm.weekly_schedule import schedule
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import TargetError
from ollama_exporter.protocol.keepalive import parse
from ollama_exporter.simulator.calls import ApiError
from ollama_exporter.simulator.model_files import GIB
from ollama_exporter.simulator.state import Host, TrueReason
from tests.support.memory_file import MemoryFile
from tests.support.virtual import run_virtually
from tests.support.virtual_ollama import SETTINGS, VirtualExporter, clock, virtual_exporter
from tests.support.witness import Client, Promised, Watching, Witness

T = TypeVar("T")
TIMES: Final = int(os.environ.get("PROMISES_TIMES", "1"))  # as many stories
MODELS: Final = ("mistral", "llama3.2", "qwen2.5:7b", "mine")  # `mine` shares mistral's weights
KEEP_ALIVES: Final = (*(None,) * 6, "20s", "5m", "2h", "1h30m", 7200, 60.5, -1, "-1s", 0, "7w")
CONTEXTS: Final = (*(None,) * 5, 2048, 8192, 32768, 200_000, 1024.5)
LATEST_HELD: Final = {"reloading": 61.0, "unsettled": 1801.0}  # seconds
CLIENT_PATIENCE: Final = 300.0  # seconds; a victim that a client keeps may block all loads
SETTLING: Final = 30.0  # seconds of rest after which a model is there or held back for a reason


@dataclass(frozen=True, slots=True)
class Theme:
    """What a story is about: its deeds with their weights, and the policy."""

    deeds: dict[str, int]
    stories: int = 6  # in each run of the suite
    steps: int = 60
    keep_warm: tuple[float, ...] = ()  # keep-alives of the models, of which some are drawn
    defaults: tuple[float | None, ...] = ()
    contexts: tuple[int | None, ...] = (None,)
    caps: tuple[float | None, ...] = (None,)
    context_caps: tuple[int | None, ...] = (None,)
    memory: tuple[int, ...] = (12, 24)
    rests: tuple[float, ...] = (1, 5, 30, 300)
    poll_interval: float = 5.0
    schedules: tuple[str, ...] = ("",)
    other_options: bool = False  # clients of the proxy request more than num_ctx


THEMES: Final = {
    # A promise, something that ends the runner, and a promise to the next runner.
    "renewed": Theme(
        {"ask": 2, "again": 6, "pair": 4, "rest": 2, "long": 1},
        defaults=(600.0, 1800.0),
        caps=(None, 3600.0),
        rests=(1, 10, 40),
        other_options=True,
    ),
    "short": Theme(
        {"short": 6, "past": 2, "ask": 2, "long": 2, "rest": 3},
        keep_warm=(300.0, 3600.0),
        defaults=(None, 600.0),
    ),
    "contexts": Theme(
        {"context": 8, "ask": 2, "past": 3, "rest": 1},
        defaults=(None, 600.0),
        contexts=(None, 2048, 16384, 200_000, 200_000),
        caps=(None, 3600.0),
        context_caps=(None, None, 4096, 8192),
        memory=(12, 12, 24),
        rests=(1, 5, 30),
    ),
    "operators": Theme(
        {"stop": 4, "exit": 4, "kill": 2, "restart": 2, "reload": 3, "ask": 3, "rest": 4},
        keep_warm=(300.0, 3600.0),
        defaults=(None, 600.0),
        rests=(1, 5, 30, 300, 1000),
        other_options=True,
    ),
    "crowded": Theme(
        {"ask": 4, "past": 4, "crash": 2, "oom": 1, "rest": 6, "exit": 1, "long": 1},
        keep_warm=(300.0, 3600.0),
        stories=3,
        memory=(5, 7, 12),
        rests=(5, 60, 300, 1000, 4000),
    ),
    "weeks": Theme(
        {"ask": 6, "past": 4, "stop": 1, "crash": 1, "exit": 1, "reload": 1, "rest": 12},
        stories=2,
        steps=12,
        keep_warm=(1800.0, 7200.0),
        defaults=(None, 1800.0),
        rests=(300, 4000, 20_000),
        poll_interval=60.0,
        schedules=("", "Mon-Fri 08:00-18:00 Europe/Berlin"),
    ),
}


class Story:
    """One random course of events."""

    def __init__(self, theme: Theme, seed: int) -> None:
        self.theme = theme
        self.dice = random.Random(seed)  # noqa: S311 - a test's course of events
        random.seed(seed)  # of the poller's jitter
        self.ollama = Witness(
            Host(
                memory=self.dice.choice(theme.memory) * GIB,
                max_loaded=self.dice.choice([1, 2, 3]),
                parallel=self.dice.choice([1, 4]),
                recovery=self.dice.choice([0.1, 5.0]),
            )
        )
        self.file = MemoryFile()
        self.settings = self.policy()
        self.log: list[str] = []
        self.background: set[asyncio.Task[None]] = set()
        self.changes = 0  # of requests, as response headers tell

    def policy(self) -> Settings:
        dice, theme = self.dice, self.theme
        keep_warm = OFF
        if theme.keep_warm:
            models = dice.sample(MODELS[:3], dice.choice([1, 1, 2, 2, 0]))
            warm = [WarmModel(_full(name), dice.choice(theme.keep_warm)) for name in models]
            text = dice.choice(theme.schedules)
            if text:
                warm = [structs.replace(each, schedule=schedule("", text)) for each in warm]
            keep_warm = KeepWarm(
                tuple(warm),
                grace=dice.choice([600.0, 1800.0]),
                most_per_hour=dice.choice([2, 6]),
                dry_run=dice.random() < 0.1,
            )
        rules: tuple[Rule, ...] = ()
        if theme.defaults:
            num_ctx, most = dice.choice(theme.contexts), dice.choice(theme.context_caps)
            if num_ctx is not None and most is not None:
                num_ctx = min(num_ctx, most)
            keep_alive, cap = dice.choice(theme.defaults), dice.choice(theme.caps)
            rules = (Rule("*", keep_alive, num_ctx, cap, most),)
        interval = theme.poll_interval
        return replace(SETTINGS, poll_interval=interval, keep_warm=keep_warm, defaults=rules)

    # -- the course of events --------------------------------------------------------------------

    async def play(self) -> None:
        steps = self.theme.steps
        while steps > 0:
            self.file.dead = False
            counted, self.changes = self.ollama.done.copy(), 0
            settings, ended = self.settings, False
            changes = {
                "keep_warm": settings.keep_warm,
                "defaults": settings.defaults,
                "poll_interval": settings.poll_interval,
            }
            async with virtual_exporter(self.ollama, state_file=self.file, **changes) as exporter:
                self.watch()
                await asyncio.sleep(self.dice.choice([0, 0.3, 10, 60]))
                while steps > 0 and not ended:
                    steps -= 1
                    ended = await self.step(exporter)
                    self.hold()
                await self.check_counters(exporter, counted)
            if self.file.dead:
                self.ollama.on_kill()  # what it did since its last step is lost as well
            self.ollama.watching = Watching()
            self.ollama.promises.clear()
            self.hold()
            await asyncio.sleep(self.dice.choice([0, 0, 5, 100]))
        await asyncio.gather(*self.background)
        self.hold()

    def watch(self) -> None:
        """Let the witness know which policy is in force."""
        self.ollama.watching = Watching(
            clock(), self.settings.keep_warm, self.settings.poll_interval
        )

    def hold(self) -> None:
        self.ollama.judge()
        assert self.ollama.violations == [], "\n".join(self.log[-15:])

    async def step(self, exporter: VirtualExporter) -> bool:
        """Do one deed; return whether the exporter ends."""
        dice, theme = self.dice, self.theme
        model = dice.choice(MODELS)
        (deed,) = dice.choices(list(theme.deeds), list(theme.deeds.values()))
        self.log.append(f"{clock() - 1.8e9:.1f} {deed} {model}")
        if deed in ("exit", "kill"):
            self.file.dead = deed == "kill"
            if self.file.dead:
                self.ollama.on_kill()
            return True
        await getattr(self, f"do_{deed}")(exporter, model)
        await asyncio.sleep(dice.choice([0.0, 0.5, 3.0, 20.0]))
        return False

    async def do_ask(self, exporter: VirtualExporter, model: str) -> None:
        """Send a request through the proxy; hold the header to its word."""
        native = self.dice.random() < 0.6
        body = self.body() if native else {}
        if native and self.theme.other_options and self.dice.random() < 0.5:
            body["options"] = body.get("options", {}) | {"num_batch": 256}
        await self.ask(exporter, model, **body, path="" if native else "/v1/chat/completions")

    async def ask(self, exporter: VirtualExporter, model: str, *, path: str, **body: Any) -> None:
        rules = exporter.settings.defaults
        rule = rules[0] if rules and not path else None
        options = body.get("options") or {}
        self.ollama.client = Client(rule, options.get("num_ctx"))
        raw = self.written({"model": model, "prompt": "hi [[n=1]]", "stream": False, **body})
        asked = exporter.ask(model, path=path or "/api/generate", raw=raw)
        task = asyncio.create_task(_patient(asked))
        await asyncio.sleep(0)  # the request has been sent
        sent = self.ollama.last
        self.changes += len(exporter.changes)
        try:
            header = await task
        except (ApiError, TargetError, TimeoutError) as err:
            self.log.append(f"   {path} {raw.decode()} -> {err!r:.60}")
            return
        self.log.append(f"   {path} {raw.decode()} -> {header!r}")
        afterwards = [part for part in header.split(", ") if part.endswith(" afterwards")]
        for part in afterwards:
            wanted = parse(part.removeprefix("keep_alive>=").removesuffix(" afterwards"))
            assert wanted is not None
            assert sent is not None
            self.ollama.promises.append(Promised(sent, wanted, header))
        if rules and rules[0].keep_alive is not None and body.get("keep_alive") is None:
            assert "keep_alive" in header, "a default is not promised"

    async def do_pair(self, exporter: VirtualExporter, model: str) -> None:
        """Let two requests end together."""
        path = "/v1/chat/completions"
        first = self.ask(exporter, model, path=self.dice.choice(["", path]))
        second = self.ask(exporter, model, path="", keep_alive=self.dice.choice([-1, "2h", None]))
        await asyncio.gather(first, self.later(second))
        await asyncio.sleep(self.dice.choice([0.0, 20.0, 20.0]))

    async def later(self, request: Awaitable[None]) -> None:
        await asyncio.sleep(
            self.dice.choice([1.1, *(self.dice.uniform(0, 0.15) for _ in range(3))])
        )
        await request

    async def do_again(self, exporter: VirtualExporter, model: str) -> None:
        """Ask, end the runner, and ask again soon."""
        path, dice = "/v1/chat/completions", self.dice
        await self.ask(exporter, model, path=dice.choice(["", path]))
        await asyncio.sleep(dice.choice([0.3, 1, 8]))
        match dice.choice(["stop", "crash", "context", "evict"]):
            case "stop":
                await self.ollama.stop(model)
            case "crash":
                self.ollama.crash(model)
            case "context":
                await self.ignore(self.ollama.past(model, options={"num_ctx": 1024}))
            case _:
                for other in MODELS[:3]:
                    await self.ignore(self.ollama.past(other))
        await asyncio.sleep(dice.choice([0.0, 0.3, 2]))
        await self.ask(exporter, model, path=path)
        await asyncio.sleep(dice.choice([0.0, 20.0]))

    async def do_context(self, exporter: VirtualExporter, model: str) -> None:
        """Ask twice, with contexts or without, and with time for a poll in between."""
        for _ in range(2):
            num_ctx = self.dice.choice([None, None, None, 2048, 32768, 200_000])
            body = {} if num_ctx is None else {"options": {"num_ctx": num_ctx}}
            await self.ask(exporter, model, path="", **body)
            await asyncio.sleep(self.dice.choice([1, 6]))

    async def do_past(self, _exporter: VirtualExporter, model: str) -> None:
        await self.ignore(self.ollama.past(model, **self.body()))

    async def do_short(self, _exporter: VirtualExporter, model: str) -> None:
        """Let a client with a short keep_alive come again and again."""
        for _ in range(3):
            await self.ignore(self.ollama.past(model, keep_alive=self.dice.choice(["20s", "60s"])))
            await asyncio.sleep(self.dice.choice([2, 10, 30, 70]))

    async def do_long(self, _exporter: VirtualExporter, model: str) -> None:
        """Let a client keep a model busy."""
        prompt = f"[[n={self.dice.choice([5, 40, 100])} tps=1]]"
        request = self.ignore(self.ollama.past(model, **(self.body() | {"prompt": prompt})))
        task = asyncio.create_task(request)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        await asyncio.sleep(0)

    async def do_stop(self, exporter: VirtualExporter, model: str) -> None:
        warm = exporter.settings.keep_warm.models
        if warm and self.dice.random() < 0.7:
            model = self.dice.choice(warm).model
        await self.ignore(self.ollama.stop(model))
        await asyncio.sleep(self.dice.choice([0, 3, 150, 300]))

    async def do_crash(self, _exporter: VirtualExporter, model: str) -> None:
        self.ollama.crash(model)

    async def do_oom(self, _exporter: VirtualExporter, _model: str) -> None:
        self.ollama.engine.fail_next_load(TrueReason.OUT_OF_MEMORY)

    async def do_restart(self, _exporter: VirtualExporter, _model: str) -> None:
        await self.ollama.restart(self.dice.choice([0.5, 10.0]))

    async def do_reload(self, exporter: VirtualExporter, _model: str) -> None:
        self.settings = policy = self.policy()
        settings = replace(exporter.settings, keep_warm=policy.keep_warm)
        exporter.reload(replace(settings, defaults=policy.defaults))
        self.watch()

    async def do_rest(self, exporter: VirtualExporter, _model: str) -> None:
        rest = self.dice.choice(self.theme.rests)
        await asyncio.sleep(rest)
        if rest > SETTLING and self.ollama.is_quiet(clock() - SETTLING):
            self.check_residence(exporter, rest)

    def body(self) -> dict[str, Any]:
        keep_alive, num_ctx = self.dice.choice(KEEP_ALIVES), self.dice.choice(CONTEXTS)
        body: dict[str, Any] = {"prompt": "[[n=1]]"}
        if keep_alive is not None:
            body["keep_alive"] = keep_alive
        if num_ctx is not None:
            body["options"] = {"num_ctx": num_ctx}
        return body

    def written(self, body: dict[str, Any]) -> bytes:
        """Return JSON that Go's decoder reads like the body, in one of the ways to write it."""
        text = json.dumps(body)
        match self.dice.randrange(6):
            case 0:
                text = text.replace('"keep_alive"', '"Keep_Alive"').replace(
                    '"options"', '"OPTIONS"'
                )
            case 1:
                text = text.replace('"keep_alive"', '"\\u006beep_alive"')
            case 2:
                text = text.replace('"keep_alive"', '"keep_alive": "3s", "KEEP_ALIVE"')
            case 3 if "num_ctx" in body.get("options", {}):
                text = text.replace('"options"', '"options": {"num_ctx": 512}, "Options"')
            case _:
                pass
        return text.encode()

    # -- what must hold --------------------------------------------------------------------------

    def check_residence(self, exporter: VirtualExporter, rest: float) -> None:
        """Hold promise 7: a keep-warm model is there, or one true reason holds it back."""
        section, ollama = exporter.settings.keep_warm, self.ollama
        samples = exporter.samples()
        held = {
            label.partition("model=")[2].partition(",")[0]: label.partition("why=")[2]
            for (name, label), value in samples.items()
            if name == "ollama_warmup_held" and value
        }
        for warm in section.models:
            why = held.get(warm.model)
            if ollama.runner(warm.model) is not None or not warm.is_expected(clock() - rest):
                continue
            if section.dry_run or ollama.loading_ours or not warm.is_expected(clock()):
                continue
            assert why is not None, f"promise 7: {warm.model} is missing\n" + self.tail()
            assert rest < LATEST_HELD.get(why, float("inf")), (why, self.tail())

    async def check_counters(self, exporter: VirtualExporter, before: Any) -> None:
        """Hold promise 11: counters and log lines tell what was done."""
        await asyncio.sleep(0)
        samples, log = exporter.samples(), exporter.log
        done = self.ollama.done - before
        totals = {
            name: sum(value for (each, _), value in samples.items() if each == name)
            for name in (
                "ollama_warmups_total",
                "ollama_keep_alive_renewals_total",
                "ollama_request_changes_total",
            )
        }
        renewed = log.count("Keep-alive renewed") + log.count("Keep-alive set after a request")
        assert totals["ollama_warmups_total"] == log.count("Model warmed") == done["load"]
        assert log.count("Warm-up failed") >= done["failed load"]  # or a look failed
        assert totals["ollama_keep_alive_renewals_total"] == renewed == done["renewal"]
        assert totals["ollama_request_changes_total"] == self.changes
        assert samples["ollama_exporter_recorder_errors_total", ""] == 0
        unexpected = [r.getMessage() for r in log.records if r.levelno >= logging.ERROR]
        assert unexpected == []

    async def ignore(self, request: Awaitable[object]) -> None:
        """Send a request whose failure is no matter here."""
        try:
            await _patient(request)
        except (ApiError, TargetError, TimeoutError) as err:
            self.log.append(f"   {err}"[:80])

    def tail(self) -> str:
        return "\n".join(self.log[-15:])


async def _patient(request: Awaitable[T]) -> T:
    async with asyncio.timeout(CLIENT_PATIENCE):
        return await request


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


@pytest.mark.parametrize(
    ("theme", "seed"),
    [(name, seed) for name, theme in THEMES.items() for seed in range(TIMES * theme.stories)],
)
def test_every_promise_holds_whatever_happens(theme: str, seed: int) -> None:
    run_virtually(play(THEMES[theme], seed))


async def play(theme: Theme, seed: int) -> None:
    await Story(theme, seed).play()
