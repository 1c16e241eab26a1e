# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the reasons on rehearsals of the simulator: hosts and workloads no rule was made on.

python -m bench.rehearsed [--seeds 2]

The simulator's scheduler knows the truth. Births, exits, polls and requests are given as a watcher,
a poller and the proxy would have seen them. Births of loads that failed are left out.
"""

import argparse
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

from bench.scoring import Record, Score, score
from ollama_exporter.errors import FailureReason
from ollama_exporter.poller.poll_schedule import Cadence
from ollama_exporter.protocol.error_text import Failure
from ollama_exporter.protocol.keepalive import KeepAliveError, parse
from ollama_exporter.protocol.model_names import normalise
from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.recordings.format import Poll, Recording, moment_of
from ollama_exporter.recordings.replayer import PollUsed, replay
from ollama_exporter.residency.events import Loaded, Unloaded
from ollama_exporter.residency.facts import (
    Fact,
    PollFailed,
    ProcessExited,
    ProcessStarted,
    RequestAnswered,
    RequestEnded,
    RequestStarted,
    Snapshot,
    WeightsNamed,
)
from ollama_exporter.simulator import workload
from ollama_exporter.simulator.model_files import GIB
from ollama_exporter.simulator.offline_run import Answered, OfflineRun, Seen, rehearse
from ollama_exporter.simulator.script import Script, Stop
from ollama_exporter.simulator.state import (
    Host,
    Load,
    ServerStarted,
    ServerStopped,
    TrueReason,
    Unload,
)

START: Final = 1_800_000_000.0
STEP: Final = 0.5  # seconds between two polls that the schedule may choose from
TAIL: Final = 15.0
NEVER: Final = 9e9  # a deadline beyond the year 2200
WORKLOADS: Final[dict[str, workload.Workload]] = {
    "office": workload.office,
    "agents": workload.agents,
    "batch": workload.batch,
    "thrash": workload.thrash,
    "faults": workload.faults,
}
HOSTS: Final = {
    "24 GB": Host(),
    "12 GB": Host(memory=12 * GIB),
    "16 GB, waits of 1 and 3 s": Host(memory=16 * GIB, recovery=3.0, convergence=1.0),
    "CPU": Host(gpu=False, memory=16 * GIB),
    "CPU, before 0.30": Host(gpu=False, memory=16 * GIB, generation="old"),
    "two models at most": Host(max_loaded=2, keep_alive=60.0),
}
EVIDENCE: Final = {"polls": (False, False), "processes": (False, True), "both": (True, True)}


def recorded(script: Script, seed: int) -> tuple[Recording, list[Record]]:
    """Rehearse a script; return what was seen of it, and the truth."""
    count = int(script.duration / STEP)
    told = rehearse(script, start=START, polls=[index * STEP + 0.13 for index in range(count)])
    polls: list[Poll] = []
    for seen in told.polls:
        polls.append(_poll(seen, new=not polls or isinstance(polls[-1], PollFailed)))
    processes = sorted(_processes(told, random.Random(seed)), key=moment_of)
    requests = sorted(_requests(told, script), key=moment_of)
    return Recording(tuple(polls), tuple(requests), tuple(processes)), list(_truth(told))


def _poll(seen: Seen, *, new: bool) -> Poll:
    if seen.models is None:
        return PollFailed(seen.at, seen.at + 0.001, FailureReason.REFUSED)
    models = tuple(
        RunningModel(
            normalise(model.name),
            model.digest,
            model.expires_at if model.expires_at < NEVER else float("inf"),
            model.size,
            model.size_vram,
            model.context,
        )
        for model in seen.models
    )
    return Snapshot(seen.at, seen.at + 0.002, models, new_connection=new)


def died(told: OfflineRun, unload: Unload) -> float:
    """Return when its process ended: at its crash, or when it left the list."""
    if unload.reason is TrueReason.CRASHED:
        return unload.decided
    starved = unload.reason is TrueReason.OUT_OF_MEMORY and any(
        answer.error is not None
        and abs(answer.ended - unload.decided) < 0.01
        and normalise(answer.step.model) == normalise(unload.name)
        for answer in told.answers
    )
    return unload.decided if starved else unload.at


def _processes(told: OfflineRun, chance: random.Random) -> Iterator[Fact]:
    server = 90
    ends = {event.pid: died(told, event) for event in told.truth if isinstance(event, Unload)}
    for event in told.truth:
        match event:
            case ServerStarted():
                server += 1
                yield ProcessStarted(event.at + 0.2, event.at, server, None)
            case ServerStopped():
                yield ProcessExited(event.at + 0.004, server)
            case Load():
                noticed = event.started_at + chance.uniform(0.005, 1.0)  # by a scan a second
                yield WeightsNamed(event.started_at - 0.5, normalise(event.name), event.weights)
                if noticed < ends.get(event.pid, noticed + 1):
                    born = round(event.started_at, 2)
                    yield ProcessStarted(noticed, born, event.pid, event.weights)
            case Unload():
                yield ProcessExited(died(told, event) + 0.002, event.pid)


def _requests(told: OfflineRun, script: Script) -> Iterator[Fact]:
    starved = [
        x.decided for x in told.truth if isinstance(x, Unload) and x.reason == "out_of_memory"
    ]
    for number, answer in enumerate(told.answers):
        keep_alive = None
        with suppress(KeepAliveError):
            keep_alive = parse(answer.step.keep_alive)
        name = normalise(answer.step.model)
        yield RequestStarted(answer.arrived, number, name, keep_alive, answer.step.num_ctx)
        if answer.granted is not None and answer.error is None:
            yield RequestAnswered(min(answer.granted + 0.05, answer.ended), number)
        yield RequestEnded(answer.ended + 0.001, number, _failure(answer, starved))
    for number, step in enumerate(script.steps):
        if isinstance(step, Stop):
            at = START + step.at
            yield RequestStarted(at, -number, normalise(step.model), 0.0, stop=True)
            yield RequestEnded(at + 0.002, -number)


def _failure(answer: Answered, starved: list[float]) -> Failure | None:
    if answer.error != "runner died":
        return None
    oom = any(abs(moment - answer.ended) < 0.01 for moment in starved)
    return Failure.OUT_OF_MEMORY if oom else Failure.CRASHED


def _truth(told: OfflineRun) -> Iterator[Record]:
    contexts = {event.pid: event.num_ctx for event in told.truth if isinstance(event, Load)}
    for event in told.truth:
        if isinstance(event, Load | Unload):
            record = {"t": event.at, "model": normalise(event.name), "pid": event.pid}
            record |= {"blob": event.weights, "num_ctx": contexts.get(event.pid, 0)}
        if isinstance(event, Load):
            yield record | {"event": "loaded"}
        elif isinstance(event, Unload) and event.pid in contexts:
            moments = {"loaded_at": event.loaded_at, "died": died(told, event)}
            yield record | {"event": "unloaded", "reason": event.reason.value, **moments}


def judge(script: Script, seed: int, *, requests: bool, processes: bool) -> Score:
    """Score one rehearsal."""
    recording, truth = recorded(script, seed)
    used: set[float] = set()
    said: list[Loaded | Unloaded] = []
    for event in replay(recording, Cadence(), requests=requests, processes=processes):
        if isinstance(event, PollUsed):
            used.add(event.t)
        elif isinstance(event, Loaded | Unloaded):
            said.append(event)
    polls = [(p.started, p.ended) for p in recording.polls if isinstance(p, Snapshot)]
    # What leaves in the last moments is followed by loads that the rehearsal does not see end.
    until = recording.polls[-1].started - TAIL
    early = [record for record in truth if record["t"] < until]
    heard = [event for event in said if event.not_after < until]
    return score(early, heard, [poll for poll in polls if poll[0] in used])


def total(seeds: int, evidence: str, *, host: str | None = None, work: str | None = None) -> Score:
    """Add the rehearsals of one host, of one workload, or of all."""
    requests, processes = EVIDENCE[evidence]
    result = Score()
    for name, kind in HOSTS.items():
        for title, make in WORKLOADS.items():
            if host in (None, name) and work in (None, title):
                for seed in range(1, seeds + 1):
                    script = replace(make(seed), host=kind)
                    result += judge(script, seed, requests=requests, processes=processes)
    return result


def main() -> None:
    """Print one line for each host, each workload, and all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="rehearsals of each kind")
    seeds = parser.parse_args().seeds
    for evidence in EVIDENCE:
        print(evidence)
        for host in HOSTS:
            print(f"  {host:26}{_line(total(seeds, evidence, host=host))}")
        for work in WORKLOADS:
            print(f"  {work:26}{_line(total(seeds, evidence, work=work))}")
        print(f"  {'together':26}{_line(total(seeds, evidence))}")


def _line(result: Score) -> str:
    judged = result.judged or 1
    right, wrong = 100 * result.right / judged, 100 * result.wrong / judged
    return f"{result.judged:4} unloads   right {right:5.1f} %   wrong {wrong:4.1f} %"


if __name__ == "__main__":
    main()
