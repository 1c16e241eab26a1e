# SPDX-License-Identifier: Apache-2.0
"""What the actions promise, against random clients, operators, machines and policies.

`docs/policy.md` numbers the promises. `PROMISES_SEEDS=200 pytest tests/properties/test_promises.py`
tries more; a seed that fails, fails again.
"""

import asyncio
import logging
import os
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from ollama_exporter.actions.defaults.defaults_section import Rule
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.config.schema import Settings
from ollama_exporter.protocol.keepalive import parse
from ollama_exporter.simulator.calls import ApiError
from ollama_exporter.simulator.model_files import GIB
from ollama_exporter.simulator.state import Host, TrueReason
from ollama_exporter.state_file import StateFile
from tests.support.virtual import run_virtually
from tests.support.virtual_ollama import (
    HOST,
    SETTINGS,
    VirtualExporter,
    VirtualOllama,
    clock,
    virtual_exporter,
)

SEEDS: Final = int(os.environ.get("PROMISES_SEEDS", "6"))
STEPS: Final = 120
POLLS: Final = replace(SETTINGS, poll_interval=5.0)
MODELS: Final = ("mistral", "llama3.2", "qwen2.5:7b", "mine")  # `mine` shares mistral's weights
KEEP_ALIVES: Final = (None, None, "20s", "5m", "2h", -1, 0)
CONTEXTS: Final = (None, None, None, 2048, 8192, 32768, 200_000)
DEEDS: Final = (
    *("ask",) * 5,
    *("past",) * 3,
    *("stop", "crash", "restart", "reload", "long", "pair", "pair", "again", "again", "short"),
    *("rest",) * 4,
)
TOLERANCE: Final = 2.0  # seconds
SETTLED: Final = 12.0  # seconds after which a promise must have come true


class Witness(VirtualOllama):
    """A server that knows what is done to it, and by which side."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        mistral = self.library.find("mistral")
        assert mistral is not None
        self.library.copy(mistral[1], "mine", clock())
        self.violations: list[str] = []
        self.loads_by_us, self.renewals_by_us = 0, 0
        self.clients = 0  # requests of clients under way
        self.client_requests = 0  # since the start
        self.stopped: dict[str, float] = {}  # weights -> time of the last stop
        self.grace = 0.0

    async def preload(
        self,
        model: str,
        *,
        patience: float,
        keep_alive: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Serve an empty request of the exporter, and note what it did."""
        before, reloads = self.runner(model), self.reloads()
        session, clients = (None if before is None else before.session), self.client_requests
        alone = not self.clients
        if before is None:
            self._loaded_by_us(model)
        elif keep_alive is not None:
            self.renewals_by_us += 1
        await super().preload(model, patience=patience, keep_alive=keep_alive, options=options)
        if before is None:
            self.loads_by_us += 1
        if not alone or self.client_requests != clients:
            return  # a client may have done it
        if self.reloads() != reloads:
            self.violations.append(f"promise 1: {model} was reloaded by {options} at {clock()}")
        after = self.runner(model)
        if after is None or session is None or after is not before:
            return
        if after.session < session - TOLERANCE:
            self.violations.append(f"promise 2: {model}: {session} became {after.session}")

    def _loaded_by_us(self, model: str) -> None:
        stopped = self.stopped.get(self._weights(model))
        if stopped is not None and clock() < stopped + self.grace - TOLERANCE:
            self.violations.append(f"promise 8: {model} was stopped {clock() - stopped:.1f} s ago")

    async def ask(self, model: str = "mistral", **body: Any) -> dict[str, Any]:
        """Serve a client."""
        self.clients += 1
        self.client_requests += 1
        weights, was_resident = self._weights(model), self.runner(model) is not None
        try:
            answer = await super().ask(model, **body)
        finally:
            self.clients -= 1
        if body.get("keep_alive") == 0 and not body.get("prompt", "x"):
            if was_resident:
                self.stopped[weights] = clock()
        else:
            self.stopped.pop(weights, None)
        return answer

    def reloads(self) -> int:
        """Return how many runners other options have ended."""
        return self.reasons().count(TrueReason.OPTIONS_CHANGED)


class Story:
    """One random course of events."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - a test's course of events
        memory = self.dice.choice([7, 12, 24]) * GIB
        host = replace(HOST, memory=memory, max_loaded=self.dice.choice([1, 2, 3]))
        self.ollama = Witness(host)
        self.file = StateFile(folder / "state.json", url=SETTINGS.ollama_url)
        self.settings = self.policy()
        self.log: list[str] = []
        self.held_for_room, self.held_at = 0, 0.0  # log lines of keep-warm, and the last one's time
        self.quiet_since = 0.0  # the exporter has run with these settings since then

    def policy(self) -> Settings:
        dice = self.dice
        lengths, contexts = (None, 120.0, 600.0, 1800.0), (None, 2048, 16384, 200_000)
        models = dice.sample(MODELS[:3], dice.choice([0, 0, 1, 2]))
        keep_warm = KeepWarm(
            tuple(WarmModel(_full(name), dice.choice([300.0, 3600.0])) for name in models),
            grace=dice.choice([600.0, 1800.0]),
        )
        keep_alive, num_ctx = dice.choice(lengths), dice.choice(contexts)
        max_keep_alive, max_num_ctx = dice.choice([None, 3600.0]), dice.choice([None, 8192])
        if max_num_ctx is not None and num_ctx is not None:
            num_ctx = min(num_ctx, max_num_ctx)
        rule = Rule("*", keep_alive, num_ctx, max_keep_alive, max_num_ctx)
        rules = (rule,) if dice.random() < 0.8 else ()
        return replace(POLLS, keep_warm=keep_warm, defaults=rules)

    async def play(self) -> None:
        steps = STEPS
        while steps > 0:
            loads, renewals = self.ollama.loads_by_us, self.ollama.renewals_by_us
            changes = _policy_of(self.settings)
            self.quiet_since = clock()
            async with virtual_exporter(self.ollama, state_file=self.file, **changes) as exporter:
                await asyncio.sleep(self.dice.choice([0.3, 10, 60]))
                for _ in range(self.dice.randrange(5, 60)):
                    steps -= 1
                    unloads = len(self.ollama.unloads())
                    await self.step(exporter)
                    self.check_expiries(exporter, unloads)
                    assert self.ollama.violations == [], "\n".join(self.log[-12:])
                self.check_counters(exporter, loads, renewals)
            await asyncio.sleep(self.dice.choice([0, 0, 5, 100]))

    async def ask_again(self, exporter: VirtualExporter, model: str) -> None:
        """Ask twice, and end the runner in between."""
        await self.ask(exporter, model)
        match self.dice.choice(["stop", "crash", "context"]):
            case "stop":
                await self.ollama.stop(model)
            case "crash":
                self.ollama.crash(model)
            case _:
                await self.ignore(self.ollama.ask(model, options={"num_ctx": 1024}))
        await self.ask(exporter, model)

    async def step(self, exporter: VirtualExporter) -> None:  # noqa: C901 - one deed each
        dice, ollama = self.dice, self.ollama
        ollama.grace = exporter.settings.keep_warm.grace
        model = dice.choice(MODELS)
        deed = dice.choice(
            ["ask"] * 5
            + ["past"] * 3
            + ["stop", "crash", "restart", "reload", "long"]
            + ["rest"] * 4
        )
        self.log.append(f"{clock() - 1.8e9:.1f} {deed} {model}")
        match deed:
            case "ask":
                await self.ask(exporter, model)
            case "past":
                await self.ignore(ollama.ask(model, **self.body()))
            case "stop":
                await self.ignore(ollama.stop(model))
            case "crash":
                ollama.crash(model)
            case "restart":
                await ollama.restart(dice.choice([0.5, 10.0]))
            case "reload":
                self.settings = self.policy()
                # a shorter grace time may not be held against a stop before it
                exporter.reload(replace(exporter.settings, **_policy_of(self.settings)))
                ollama.stopped.clear()
                self.quiet_since = clock()
            case "again":  # a promise, a disturbance, and a promise to the next runner
                await self.ask_again(exporter, model)
            case "short":  # a client with a short keep_alive, again and again
                for pause in (10, 15, 60):
                    await self.ignore(ollama.ask(model, keep_alive="20s"))
                    await asyncio.sleep(pause)
            case "pair":
                await asyncio.gather(self.ask(exporter, model), self.ask(exporter, model))
            case "long":
                prompt = f"[[n={dice.choice([5, 40])} tps=1]]"
                await self.ignore(ollama.ask(model, **(self.body() | {"prompt": prompt})))
            case _:
                await asyncio.sleep(dice.choice([1, 5, 30, 300, 1000, 4000]))
        await asyncio.sleep(dice.choice([0.0, 0.5, 3.0, 20.0]))

    def body(self) -> dict[str, Any]:
        keep_alive, num_ctx = self.dice.choice(KEEP_ALIVES), self.dice.choice(CONTEXTS)
        body: dict[str, Any] = {"prompt": "[[n=1]]"}
        if keep_alive is not None:
            body["keep_alive"] = keep_alive
        if num_ctx is not None:
            body["options"] = {"num_ctx": num_ctx}
        return body

    async def ask(self, exporter: VirtualExporter, model: str) -> None:
        """Send a request through the proxy; hold the caps and the header to their word."""
        native = self.dice.random() < 0.6
        body = self.body() if native else {}
        path = "/api/generate" if native else "/v1/chat/completions"
        before = self.ollama.runner(model)
        context = None if before is None else before.options.num_ctx
        try:
            header = await exporter.ask(model, path=path, **body)
        except ApiError:
            return
        self.log.append(f"   {path} {body} -> {header!r}")
        self.check_caps(exporter, context)
        rules = exporter.settings.defaults
        if native and before is not None and rules and rules[0].num_ctx and "options" not in body:
            set_to = min(rules[0].num_ctx, before.file.train_context)
            listed = before.loaded_at < clock() - SETTLED
            if context == set_to and listed and self.ollama.clients == 0:
                assert f"num_ctx={set_to}" in header, "promise 6: it would be reloaded"
        promised = [part for part in header.split(", ") if part.endswith(" afterwards")]
        runner = self.ollama.runner(model)
        if not promised or runner is None:
            return
        wanted = parse(promised[0].removeprefix("keep_alive>=").removesuffix(" afterwards"))
        assert wanted is not None
        await asyncio.sleep(SETTLED)
        now = self.ollama.runner(model)
        if now is None or now is not runner:  # an event of the server explains it
            ends = {u.reason for u in self.ollama.unloads() if u.pid == runner.pid}
            assert ends - {TrueReason.EXPIRED}, (header, ends, self.log[-12:])
            return
        assert now.session >= wanted - TOLERANCE, (header, now.session, self.log[-12:])

    def check_caps(self, exporter: VirtualExporter, context: int | None) -> None:
        rules = exporter.settings.defaults
        if not rules or exporter.sent is None:
            return
        keep_alive = parse(exporter.sent.get("keep_alive"))
        if keep_alive is not None and rules[0].max_keep_alive is not None:
            assert keep_alive <= rules[0].max_keep_alive
        num_ctx = (exporter.sent.get("options") or {}).get("num_ctx")
        most = rules[0].max_num_ctx
        if num_ctx is None or most is None or num_ctx <= most:
            return
        # Resident with that very context, by a listing that is as old as a poll at most.
        recent = any(u.at > clock() - 50.0 for u in self.ollama.unloads())
        assert recent or context == min(num_ctx, context or 0)

    def check_expiries(self, exporter: VirtualExporter, since: int) -> None:
        """Hold promise 7: no keep-warm model expires while the exporter watches it."""
        names = [warm.model for warm in exporter.settings.keep_warm.models]
        weights = {self.ollama.library.find(name)[1].file.weights for name in names}  # type: ignore[index]  # they are installed
        held = sum(vars(record).get("why") == "no_room" for record in exporter.log.records)
        if held != self.held_for_room:  # a later model makes way for an earlier one
            self.held_for_room, self.held_at = held, clock()
        for unload in self.ollama.unloads()[since:]:
            if unload.loaded_at <= self.held_at:
                continue
            if unload.reason is TrueReason.EXPIRED and unload.weights in weights:
                watched = unload.at - max(self.quiet_since, unload.loaded_at)
                assert watched < 50.0, (unload.name, watched, self.log[-12:])

    def check_counters(self, exporter: VirtualExporter, loads: int, renewals: int) -> None:
        samples = exporter.samples()
        counted = sum(v for (name, _), v in samples.items() if name == "ollama_warmups_total")
        assert counted <= self.ollama.loads_by_us - loads
        counted = sum(v for (n, _), v in samples.items() if n == "ollama_keep_alive_renewals_total")
        assert counted <= self.ollama.renewals_by_us - renewals
        assert samples["ollama_exporter_recorder_errors_total", ""] == 0
        unexpected = [r for r in exporter.log.records if r.levelno >= logging.ERROR]
        assert unexpected == []

    async def ignore(self, request: Any) -> None:
        """Send a request whose failure is no matter here."""
        try:
            await request
        except ApiError as err:
            self.log.append(f"   {err.text[:60]}")


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _policy_of(settings: Settings) -> dict[str, Any]:
    return {"keep_warm": settings.keep_warm, "defaults": settings.defaults}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_promise_holds_whatever_happens(seed: int, tmp_path: Path) -> None:
    run_virtually(play(seed, tmp_path))


async def play(seed: int, folder: Path) -> None:
    await Story(seed, folder).play()
