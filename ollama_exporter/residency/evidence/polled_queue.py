# SPDX-License-Identifier: Apache-2.0
"""The queue before a model that left between two polls, as its processes would show it.

A runner that is condemned while busy leaves as its last request ends, and that moment is seen.
"""

import math
from collections.abc import Collection, Iterable
from typing import Final

from ollama_exporter.residency import timings
from ollama_exporter.residency.evidence.exit_requests import ExitRequests
from ollama_exporter.residency.evidence.process_exits import ProcessExit
from ollama_exporter.residency.evidence.queue_replay import Queue
from ollama_exporter.residency.evidence.requests import SeenRequests
from ollama_exporter.residency.evidence.runner_processes import RunnerProcesses
from ollama_exporter.residency.facts import ProcessExited, ProcessStarted, WeightsNamed
from ollama_exporter.residency.incarnation import Incarnation
from ollama_exporter.residency.poll_unloads import PollUnload

MOST_MODELS: Final = 64  # a server holds a handful; more are not replayed


def queue_before(
    unload: PollUnload,
    beside: Collection[Incarnation],
    earlier: Iterable[PollUnload],
    requests: SeenRequests,
) -> Queue | None:
    """Return the queue as that model left. None: it is not known when it did.

    `beside`: what is resident beside it. `earlier`: the latest unloads before.
    """
    ended = _last_end(unload, requests)
    before = [x for x in earlier if x.high >= ended - timings.REQUESTS_KEPT]
    left = _leaves_by(ended, sorted(x.high for x in before))
    if left < unload.low or ended > unload.high or len(beside) > MOST_MODELS:
        return None
    lives = [*(x.life for x in before), *beside, unload.life]
    runners = RunnerProcesses()
    for name in {*(r.model for r in requests.history), *(life.model.name for life in lives)}:
        runners.name(WeightsNamed(-math.inf, name, name))
    for pid, life in enumerate(lives):
        born = life.first_seen if life.since is None else life.since
        runners.start(ProcessStarted(born, born, pid, life.model.name))
    started = list(runners.living)
    for life, runner in zip(lives, started, strict=True):
        runners.join(runner, life.key)
        runner.unlisted, runner.listed = life.since, life.first_seen
        runner.context = life.model.context
    exits = [
        ProcessExit(x.life, x.low, x.high, runner=runner)
        for x, runner in zip(before, started, strict=False)
    ]
    own = ProcessExit(unload.life, ended, ended, runner=started[-1])
    for exited in (*exits, own):
        runners.exit(ProcessExited(exited.low, exited.runner.pid))
    # What left in between may have left for the oldest, so nothing is known of later decisions.
    wait, known = math.inf, ExitRequests(requests, runners)
    return Queue(own, exits, runners.all, known, wait, requests.out_of_memory, loads=1)


def _leaves_by(ended: float, unloads: Iterable[float]) -> float:
    """Return when a condemned model is gone at the latest: at once, or behind others in a row."""
    latest, reach = ended + timings.CLOCK_ERROR, ended + timings.EFFECT
    for high in unloads:
        if ended - timings.BEHIND_ANOTHER < high <= reach:
            latest = reach = max(reach, high + timings.BEHIND_ANOTHER)
    return latest


def _last_end(unload: PollUnload, requests: SeenRequests) -> float:
    """Return when the last request that it served ended. Infinity: one goes on, or none is seen."""
    life, since = unload.life, unload.life.since or -math.inf
    ends = [
        math.inf if r.ended is None else r.ended
        for r in requests.history_of(unload.name)
        if not r.fact.stop
        and r.answered is not None
        and r.answered >= since
        and r.fact.at <= unload.high
        and not requests.forces_reload(r.fact, life)
    ]
    return max(ends, default=math.inf)
