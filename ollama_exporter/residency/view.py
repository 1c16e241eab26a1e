# SPDX-License-Identifier: Apache-2.0
"""What is known about each model name now, for `/metrics` and the screens."""

from collections.abc import Iterable, Iterator

from ollama_exporter.protocol.wire import RunningModel
from ollama_exporter.residency.events import ModelState, View
from ollama_exporter.residency.evidence.processes import ProcessEvidence
from ollama_exporter.residency.incarnation import Incarnation


def runners_at_work(view: View) -> Iterator[tuple[str, int]]:
    """Yield model and pid of each living runner that is listed and not loading."""
    for state in view.models:
        if state.resident:  # the process of a load in progress is the last one
            pids = state.pids if state.loading_since is None else state.pids[:-1]
            yield from ((state.name, pid) for pid in pids)


def states(
    known: Iterable[str], lives: Iterable[Incarnation], processes: ProcessEvidence
) -> tuple[ModelState, ...]:
    """Return the state of each name that is known or loading, sorted by name."""
    resident: dict[str, list[Incarnation]] = {}
    for life in lives:
        resident.setdefault(life.model.name, []).append(life)
    dead: dict[str, list[RunningModel]] = {}
    for model in processes.matching.dead.values():
        dead.setdefault(model.name, []).append(model)
    loading = _loading(processes)
    names = sorted({*known, *loading})
    return tuple(
        _state(name, resident.get(name, []), dead.get(name, []), loading.get(name), processes)
        for name in names
    )


def _state(
    name: str,
    lives: list[Incarnation],
    dead: list[RunningModel],
    loading: tuple[float, int] | None,
    processes: ProcessEvidence,
) -> ModelState:
    mine = sorted(lives, key=lambda life: life.first_seen)
    youngest = mine[-1] if mine else None
    runners = [processes.matching.runners.of(life.key) for life in mine]
    pids = [runner.pid for runner in runners if runner is not None]
    up = None
    if dead:
        up = False
    elif mine and all(runner is not None for runner in runners):
        up = True
    return ModelState(
        name,
        resident=(*(life.model for life in mine), *dead),
        since=None if youngest is None else youngest.first_seen,
        keep_alive=None if youngest is None else youngest.keep_alive,
        last_use=None if youngest is None else youngest.last_use,
        runner_up=up,
        loading_since=None if loading is None else loading[0],
        pids=tuple(pids if loading is None else [*pids, loading[1]]),
        deadline=None if youngest is None else youngest.expires,
    )


def _loading(processes: ProcessEvidence) -> dict[str, tuple[float, int]]:
    """Return name -> birth and pid of the processes that are not listed yet.

    Of several names for the same weights, the one that is asked for is named.
    """
    found: dict[str, tuple[float, int]] = {}
    for runner in processes.matching.runners.living:
        names = processes.matching.runners.names(runner.weights)
        if runner.key is None and names:
            found.setdefault(processes.requests.likeliest(names), (runner.born, runner.pid))
    return found
