# SPDX-License-Identifier: Apache-2.0
"""Which of the servers on this machine is the one that is polled. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from ollama_exporter.host.processes.reader import Process


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that runs here. `listens`: where the polls go; None: that may not be known."""

    process: Process
    listens: bool | None
    weights: frozenset[str] = frozenset()  # of its runners


@dataclass(frozen=True, slots=True)
class Choice:
    """The server, or why none was chosen."""

    process: Process | None
    why: str = ""


NONE_RUNS = "no `ollama serve` is to be seen on this machine"
NONE_LISTENS = "the `ollama serve` that is to be seen does not listen there"
AMBIGUOUS = "several servers run here, and which one answers may not be known"


def choose(
    candidates: Sequence[Candidate], listed: frozenset[str], *, insist: bool = False
) -> Choice:
    """Choose by the listening port; where that may not be known, by the weights that are listed.

    `listed`: the weights that `/api/ps` lists, as far as they are known. `insist`: the operator
    says that it is here, so that the only one is it, whatever its port is mapped to.
    """
    if not candidates:
        return Choice(None, NONE_RUNS)
    sure = [each for each in candidates if each.listens]
    if sure:
        return Choice(min(sure, key=lambda each: each.process.born).process)
    open_ = [each for each in candidates if each.listens is None]
    if len(open_) > 1:
        open_ = [each for each in open_ if listed and listed <= each.weights]
        if len(open_) != 1:
            return Choice(None, AMBIGUOUS)
    if not open_ and insist and len(candidates) == 1:
        open_ = list(candidates)
    return Choice(open_[0].process) if open_ else Choice(None, NONE_LISTENS)
