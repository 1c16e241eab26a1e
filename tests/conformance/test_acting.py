# SPDX-License-Identifier: Apache-2.0
"""What we do to a server: nothing of it reloads a runner or shortens a life. §7."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import pytest

from ollama_exporter.actions import renew
from ollama_exporter.actions.defaults.defaults_section import Rule
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm, WarmModel
from ollama_exporter.actions.measure.measure_model import Measurement, MeasurePlan, measure
from ollama_exporter.actions.measure.summary import Kind
from ollama_exporter.actions.renewal_outcome import RenewalOutcome
from ollama_exporter.actions.warm.load_models import WarmOptions, WarmOutcome, WarmProgress, warm_up
from ollama_exporter.config.target import Target
from ollama_exporter.protocol.control_client import ControlClient
from tests.conformance.conftest import Subject
from tests.conformance.talk import BOUND, Ollama, expiry, until
from tests.support.exporting import Running, exporting

T = TypeVar("T")
CONTEXTS = pytest.mark.parametrize("share", [None, 2], ids=["automatic", "explicit"])


class Watch:
    """Polls all the while: how often the model left, and the contexts that it had."""

    def __init__(self, ollama: Ollama, model: str) -> None:
        self.absences, self.contexts, self.deadlines = 0, set[int](), list[float]()
        self._ollama, self._model = ollama, model
        self._there = True

    def look(self) -> None:
        entry = self._ollama.entry(self._model)
        self.absences += self._there and entry is None
        self._there = entry is not None
        if entry is not None:
            self.contexts.add(entry["context_length"])
            self.deadlines.append(expiry(entry))


@contextmanager
def watched(ollama: Ollama, model: str) -> Iterator[Watch]:
    done = threading.Event()
    other = Ollama(ollama.url)
    watch = Watch(other, model)

    def poll() -> None:
        while not done.is_set():
            watch.look()
            time.sleep(0.005)
        other.http.close()

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()


def resident(ollama: Ollama, model: str, share: int | None, keep_alive: float | str = "5m") -> int:
    """Have the model loaded and idle, with the automatic context or a part of it."""
    ollama.say(model, keep_alive=keep_alive)
    context = int(ollama.settled(model)["context_length"])
    if share is not None:
        context //= share
        ollama.say(model, keep_alive=keep_alive, options={"num_ctx": context})
        assert ollama.settled(model)["context_length"] == context
    return context


def largest_context(ollama: Ollama, model: str) -> int:
    """Return the model's own maximum, in tokens."""
    shown = ollama.post("/api/show", model=model).raise_for_status().json()["model_info"]
    (most,) = (value for key, value in shown.items() if key.endswith(".context_length"))
    return int(most)


def full_name(model: str) -> str:
    return model if ":" in model else f"{model}:latest"


def proxy_of(exporter: Running) -> str:
    said = [r for r in exporter.log.records if r.getMessage() == "Proxy listening on"]
    return f"http://{vars(said[0])['address']}"


def act(ollama: Ollama, what: Callable[[ControlClient], Awaitable[T]]) -> T:
    async def main() -> T:
        client = ControlClient(Target("test", ollama.url), timeout=30)
        try:
            return await what(client)
        finally:
            await client.aclose()

    return asyncio.run(main())


def rest(ollama: Ollama, model: str) -> float:
    return expiry(ollama.settled(model)) - time.time()


@CONTEXTS
def test_a_touch_reveals_the_keep_alive_and_reloads_nothing(
    ollama: Ollama, model: str, share: int | None
) -> None:
    """§7.1."""
    context = resident(ollama, model, share, keep_alive="7m")
    with watched(ollama, model) as watch:
        touched = act(ollama, lambda client: renew.touch(client, model))
    assert touched.outcome is RenewalOutcome.LONGER
    assert touched.keep_alive == pytest.approx(420, abs=1.5)
    assert (watch.absences, watch.contexts) == (0, {context})
    assert watch.deadlines == sorted(watch.deadlines)


@CONTEXTS
def test_a_renewal_sets_a_longer_keep_alive_and_reloads_nothing(
    ollama: Ollama, model: str, share: int | None
) -> None:
    """§7.2; and clients' own requests find the runner that they had."""
    context = resident(ollama, model, share)
    options = {} if share is None else {"options": {"num_ctx": context}}
    with watched(ollama, model) as watch:
        renewal = act(ollama, lambda client: renew.renew(client, model, 3600.0))
        until(lambda: rest(ollama, model) > 3500 or None, "the deadline is an hour ahead")
        ollama.say(model, **options)
        ollama.settled(model)
    assert renewal.outcome is RenewalOutcome.SET
    assert (watch.absences, watch.contexts) == (0, {context})
    assert watch.deadlines == sorted(watch.deadlines)


@CONTEXTS
@pytest.mark.parametrize("longer", ["2h", -1])
def test_a_renewal_leaves_a_longer_keep_alive(
    ollama: Ollama, model: str, share: int | None, longer: str | int
) -> None:
    """§7.3: also after a later request, which inherits it."""
    resident(ollama, model, share, keep_alive=longer)
    renewal = act(ollama, lambda client: renew.renew(client, model, 600.0))
    assert renewal.outcome is RenewalOutcome.LONGER
    assert rest(ollama, model) > 7000


def test_a_model_in_use_is_left_alone(ollama: Ollama, model: str) -> None:
    """§7.4: a keep_alive would keep a busy one that was told to go."""
    ollama.say(model, keep_alive="5m")
    before = ollama.settled(model)["expires_at"]
    with ollama.busy(model):
        renewal = act(ollama, lambda client: renew.renew(client, model, 3600.0))
        assert renewal.outcome is RenewalOutcome.BUSY
        assert ollama.listed(model)["expires_at"] == before
    until(lambda: ollama.listed(model)["expires_at"] != before or None, "the request has ended")
    assert rest(ollama, model) < 400


def test_a_model_in_its_first_use_is_left_alone(ollama: Ollama, model: str) -> None:
    """§7.4: its deadline slides."""
    with ollama.busy(model, keep_alive="5m"):
        renewal = act(ollama, lambda client: renew.renew(client, model, 3600.0))
        assert renewal.outcome is RenewalOutcome.BUSY


def test_what_is_not_resident_is_not_loaded_by_a_renewal(ollama: Ollama, model: str) -> None:
    """§7.5."""
    renewal = act(ollama, lambda client: renew.renew(client, model, 3600.0))
    assert renewal.outcome is RenewalOutcome.ABSENT
    assert ollama.entry(model) is None


def test_a_warm_up_loads_what_is_absent(ollama: Ollama, model: str) -> None:
    """§7.6: with a context that requests without one can use."""

    async def warm(client: ControlClient) -> Any:
        return await warm_up(client, [model], WarmOptions(keep_alive=900.0), (), WarmProgress())

    (warmed,) = act(ollama, warm)
    assert warmed.outcome is WarmOutcome.LOADED
    assert 0 < warmed.seconds < 60
    assert rest(ollama, model) == pytest.approx(900, abs=BOUND)
    with watched(ollama, model) as watch:
        ollama.say(model)
        ollama.settled(model)
    assert watch.absences == 0


@CONTEXTS
def test_a_warm_up_of_a_resident_model_reloads_nothing(
    ollama: Ollama, model: str, share: int | None
) -> None:
    """§7.7: whatever context it was wished."""
    context = resident(ollama, model, share)

    async def warm(client: ControlClient) -> Any:
        return await warm_up(client, [model], WarmOptions(900.0, num_ctx=512), (), WarmProgress())

    with watched(ollama, model) as watch:
        (warmed,) = act(ollama, warm)
    assert warmed.outcome is WarmOutcome.WARM
    assert (watch.absences, watch.contexts) == (0, {context})
    assert rest(ollama, model) == pytest.approx(900, abs=BOUND)


@CONTEXTS
def test_a_measurement_leaves_the_model_as_it_was(
    ollama: Ollama, subject: Subject, share: int | None
) -> None:
    """§7.8: it is unloaded for the cold call, and for nothing else."""
    model = subject.model
    context = resident(ollama, model, share, keep_alive="7m")
    plan = MeasurePlan(model, "Say something.", 2, 1, 4, timeout=60)
    with watched(ollama, model) as watch:
        measured = Measurement()
        act(ollama, lambda client: measure(client, plan, measured, lambda _step: None))
    kinds = [sample.kind for sample in measured.samples]
    assert kinds == [Kind.COLD, Kind.WARM, Kind.CACHED, Kind.WARM, Kind.CACHED]
    assert measured.samples[0].load is not None
    assert measured.samples[0].load > (measured.samples[1].load or 0.0)
    assert watch.contexts == {context}
    # an old server lists it while it loads, so that it is hardly ever gone
    assert watch.absences == 1 or (subject.old and watch.absences == 0)
    assert rest(ollama, model) == pytest.approx(420, abs=BOUND)


def test_a_measurement_unloads_what_was_not_resident(ollama: Ollama, model: str) -> None:
    """§7.8."""
    plan = MeasurePlan(model, "Say something.", 1, 1, 4, timeout=60)
    act(ollama, lambda client: measure(client, plan, Measurement(), lambda _step: None))
    ollama.gone(model)


@CONTEXTS
def test_keep_warm_reloads_nothing(ollama: Ollama, model: str, share: int | None) -> None:
    """§7.9."""
    context = resident(ollama, model, share)
    name = full_name(model)

    async def main() -> None:
        keep_warm = KeepWarm((WarmModel(name, 3600.0),))
        changes = {"poll_interval": 1.0, "keep_warm": keep_warm}
        async with exporting(ollama.url, **changes) as exporter:
            key = ("ollama_keep_alive_renewals_total", f"by=keep_warm,model={name}")
            await exporter.until(lambda s: s.get(key) == 1)

    with watched(ollama, model) as watch:
        asyncio.run(main())
    assert (watch.absences, watch.contexts) == (0, {context})
    assert rest(ollama, model) > 3500


@CONTEXTS
def test_the_proxy_s_renewal_reloads_nothing(ollama: Ollama, model: str, share: int | None) -> None:
    """§7.10: after a request of a route that cannot carry a keep_alive."""
    context = resident(ollama, model, share)
    name = full_name(model)
    options = {} if share is None else {"options": {"num_ctx": context}}

    async def main() -> None:
        changes = {
            "proxy_addresses": (":0",),
            "defaults": (Rule("*", keep_alive=3600.0),),
        }
        async with exporting(ollama.url, **changes) as exporter:
            proxy = proxy_of(exporter)
            loaded = ("ollama_model_loaded", f"model={name}")
            await exporter.until(lambda s: s.get(loaded) == 1)
            async with httpx.AsyncClient(base_url=proxy, trust_env=False, timeout=60) as client:
                body: dict[str, Any] = {"model": model, "prompt": "Hi", "stream": False}
                if share is None:
                    answer = await client.post("/v1/completions", json=body | {"max_tokens": 4})
                else:  # the compatible API would have it reloaded by itself
                    options["options"]["num_predict"] = 4
                    answer = await client.post("/api/generate", json=body | options)
                assert answer.status_code == 200, answer.text
            key = ("ollama_keep_alive_renewals_total", f"by=defaults,model={name}")
            await exporter.until(lambda s: s.get(key) == 1)

    with watched(ollama, model) as watch:
        asyncio.run(main())
    assert (watch.absences, watch.contexts) == (0, {context})
    assert rest(ollama, model) > 3500


def test_the_server_lowers_a_context_to_the_model_s_maximum(ollama: Ollama, model: str) -> None:
    """§7.11: and reloads nothing for a request that asks for more again."""
    most = largest_context(ollama, model)
    ollama.say(model, options={"num_ctx": 2 * most})
    assert ollama.settled(model)["context_length"] == most
    with watched(ollama, model) as watch:
        ollama.say(model, options={"num_ctx": 2 * most})
        ollama.settled(model)
    assert (watch.absences, watch.contexts) == (0, {most})


def test_a_rule_above_the_model_s_maximum_reloads_nothing(ollama: Ollama, model: str) -> None:
    """§7.11: the request that loads it gets the maximum, and so do the later ones."""
    most, name = largest_context(ollama, model), full_name(model)

    async def main() -> None:
        changes = {
            "proxy_addresses": (":0",),
            "defaults": (Rule("*", num_ctx=2 * most),),
        }
        async with exporting(ollama.url, **changes) as exporter:
            await exporter.until(lambda s: s["ollama_up", ""] == 1)
            async with httpx.AsyncClient(base_url=proxy_of(exporter), trust_env=False) as client:

                async def say() -> None:
                    options = {"num_predict": 4}
                    body = {"model": model, "prompt": "Hi", "stream": False, "options": options}
                    answer = await client.post("/api/generate", json=body, timeout=60)
                    assert answer.status_code == 200, answer.text
                    sets = answer.headers["X-Ollama-Exporter-Set"]
                    assert sets.startswith("num_ctx="), sets

                await say()
                await exporter.until(lambda s: s["ollama_model_loaded", f"model={name}"] == 1)
                assert ollama.listed(model)["context_length"] == most
                with watched(ollama, model) as watch:
                    await say()
                    await say()
                assert (watch.absences, watch.contexts) == (0, {most})

    asyncio.run(main())


def test_keep_warm_waits_for_its_grace_after_a_stop_past_the_proxy(
    ollama: Ollama, model: str
) -> None:
    """§7.12: then it loads the model again. Most of the time is the grace."""
    grace, name = 2.0, full_name(model)
    resident(ollama, model, None, keep_alive="2h")

    async def main() -> None:
        keep_warm = KeepWarm((WarmModel(name, 3600.0),), grace=grace)
        async with exporting(ollama.url, keep_warm=keep_warm) as exporter:
            await exporter.until(lambda s: s["ollama_model_loaded", f"model={name}"] == 1)
            stopped = time.time()
            await asyncio.to_thread(ollama.stop, model)
            await exporter.until(lambda s: s["ollama_model_loaded", f"model={name}"] == 0)
            warmed = ("ollama_warmups_total", f"model={name}")
            await exporter.until(lambda s: s[warmed] == 1)
            (said,) = (r for r in exporter.log.records if r.getMessage() == "Model warmed")
            assert said.created - stopped >= grace

    asyncio.run(main())
    assert rest(ollama, model) > 3500
