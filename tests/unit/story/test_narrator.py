# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import dataclass

from msgspec.structs import replace

from ollama_exporter.advice.idle_histogram import IdleHistogram
from ollama_exporter.advice.keep_alive_advice import Advice, CostInputs, advise, surely_saved
from ollama_exporter.host.runner.runner_command import RunnerCommand
from ollama_exporter.host.runner.slot_usage import RunnerSight, SlotsNow
from ollama_exporter.metrics.request_metrics import Waiting
from ollama_exporter.poller.published import Published, ServerState
from ollama_exporter.story.differences import difference_of
from tests.support.storytelling import GB, NOBODY, MadeUp, listing, resident

A, B, C = "a:latest", "b:latest", "c:latest"
COMMAND = RunnerCommand(port=1, slots=2, context=4096)


def test_the_status_says_what_is_in_memory_and_until_when() -> None:
    made = MadeUp(published=listing(resident(A, 100.0), resident(B, 90.0, deadline=math.inf)))
    status = made.narrator().status(1000.0)
    one, two = status.models
    assert (one.name, one.deadline, one.pinned, one.keep_alive) == (A, 1300.0, False, 300.0)
    assert (two.deadline, two.pinned, two.size) == (None, True, 4 * GB)
    assert (status.memory.used, status.memory.most) == (8 * GB, 8 * GB)
    assert status.server.url == "http://***@127.0.0.1:11434"
    told = [(source.name, source.on, source.detail) for source in status.sources]
    assert told == [("Polls", True, "The server answers.")]


def test_nothing_is_claimed_while_the_server_is_down() -> None:
    made = MadeUp(published=listing(resident(A, 100.0), up=False))
    status = made.narrator().status(1000.0)
    assert (status.models, status.server.up) == ((), False)
    assert made.narrator().ranks(1000.0) == {}
    assert status.sources[0].detail == "The server does not answer."
    assert status.sources[0].line
    before = MadeUp(published=Published(ServerState(), NOBODY)).narrator().status(1000.0)
    assert before.sources[0].detail == "The server has not been polled yet."


def test_the_shortest_keep_alive_goes_first_unless_it_is_busy() -> None:
    short = resident(A, 1.0, keep_alive=60.0)
    long, pinned = resident(B, 1.0, keep_alive=600.0), resident(C, 1.0, keep_alive=math.inf)
    made = MadeUp(published=listing(short, long, pinned))
    assert made.narrator().ranks(1000.0) == {A: 1, B: 2, C: 3}
    made.requests[A] = 1
    assert made.narrator().ranks(1000.0) == {B: 1, C: 2, A: 3}


def test_an_unknown_keep_alive_is_assumed_and_the_status_says_so() -> None:
    known = resident(A, 1.0, keep_alive=200.0)
    unknown = resident(B, 1.0, keep_alive=None)
    status = MadeUp(published=listing(known, unknown)).narrator().status(1000.0)
    assert [(m.rank, m.rank_known) for m in status.models] == [(1, True), (2, False)]


def test_a_deadline_in_the_past_means_that_a_request_runs() -> None:
    made = MadeUp(published=listing(resident(A, 100.0, deadline=900.0)))
    assert made.narrator().status(1000.0).models[0].busy
    idle = SlotsNow(2, 0, 4096, 0, 10, 10)
    made.runners = [RunnerSight(A, COMMAND, "", idle)]
    assert not made.narrator().status(1000.0).models[0].busy


def test_slots_are_told_of_all_runners_of_a_model() -> None:
    made = MadeUp(published=listing(resident(A, 100.0)))
    looks = [SlotsNow(2, 1, 4096, 1024, 2048, 0), SlotsNow(2, 0, 4096, 0, 10, 0)]
    made.runners = [RunnerSight(A, COMMAND, "", look) for look in looks]
    (model,) = made.narrator().status(1000.0).models
    assert (model.slots, model.slots_busy, model.context_used, model.busy) == (4, 1, 1024, True)


def test_a_model_that_loads_is_there_before_it_is_listed() -> None:
    loading = replace(resident(A, 1.0), resident=(), since=None, deadline=None, loading_since=990.0)
    status = MadeUp(published=listing(loading)).narrator().status(1000.0)
    (model,) = status.models
    assert (model.resident, model.loading_since, model.rank) == (False, 990.0, None)


def test_who_waits_for_longest_comes_first() -> None:
    made = MadeUp(waiting=[Waiting(A, 1, 30.0), Waiting(B, 1, 20.0)])
    assert [each.model for each in made.narrator().status(40.0).waiting] == [B, A]


@dataclass
class Advised:
    label: str
    inputs: CostInputs
    advice: Advice

    def is_surely_better(self, then: float, now: float) -> bool:
        return surely_saved(self.inputs, then, now) > 0


def advised(label: str, gap: float, count: int) -> Advised:
    histogram = IdleHistogram()
    for _ in range(count):
        histogram.add(gap)
    inputs = CostInputs(histogram, 60.0, 1e9)
    return Advised(label, inputs, advise(inputs))


def test_advice_that_saves_has_a_line_to_paste() -> None:
    made = MadeUp(advice=[advised("it's:latest", 400.0, 60), advised(B, 400.0, 2)])
    better, young = made.narrator().status(1000.0).advice
    assert better.advised > 300.0
    assert better.saves.startswith("60 cold starts fewer")
    assert better.line.startswith("curl 'http://***@127.0.0.1:11434/api/generate' -d '")
    assert "'\"'\"'" in better.line  # the quote in its name cannot end the argument
    assert (young.samples, young.line, young.saves) == (2, "", "")


def test_a_name_that_cannot_be_printed_is_never_pasted() -> None:
    made = MadeUp(advice=[advised("a\x1bb:latest", 400.0, 60)])
    (row,) = made.narrator().status(1000.0).advice
    assert (row.line, row.model) == ("", "a\\u001bb:latest")


def test_differences_are_the_fields_and_models_that_changed() -> None:
    made = MadeUp(published=listing(resident(A, 100.0), resident(B, 100.0)))
    narrator = made.narrator()
    old = narrator.status(1000.0)
    assert difference_of(old, narrator.status(1001.0)) == {}
    made.published = listing(resident(A, 100.0, deadline=1400.0), resident(C, 1000.0))
    new = narrator.status(1002.0)
    changes = difference_of(old, new)
    assert [model.name for model in changes.pop("models")] == [A, C]
    assert changes == {"gone": [B]}
    assert difference_of(new, old)["gone"] == [C]
