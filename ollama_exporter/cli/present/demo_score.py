# SPDX-License-Identifier: Apache-2.0
"""How the reasons that the demonstration showed compare with what the simulated server did."""

from collections import Counter
from dataclasses import dataclass

from ollama_exporter.cli.present.quantities import moment
from ollama_exporter.residency.events import Reason, Unloaded


@dataclass(frozen=True, slots=True)
class TrueUnload:
    """One unload as the simulated server did it: the truth to compare with."""

    model: str
    reason: str
    at: float  # Unix seconds: when it left the list
    decided: float | None = None  # when its cause struck: a runner that crashed stays listed


@dataclass(frozen=True, slots=True)
class Scores:
    """The settled unloads compared with the truth."""

    right: Counter[str]
    unknown: Counter[str]  # honest: counted by the true reason
    wrong: list[tuple[Unloaded, TrueUnload | None]]  # None: there was no such unload
    unseen: Counter[str]  # real, not settled or too short for the polls


def score(unloads: list[Unloaded], truth: list[TrueUnload], *, slack: float = 1.0) -> Scores:
    """Pair each unload with the true one of that model inside its bounds, `slack` seconds wider."""
    left = sorted(truth, key=lambda real: real.at)
    scores = Scores(Counter(), Counter(), [], Counter())
    for unload in sorted(unloads, key=lambda told: told.not_after):
        real = next((real for real in left if _same(unload, real, slack)), None)
        if real is not None:
            left.remove(real)
        if real is not None and unload.reason == real.reason:
            scores.right[real.reason] += 1
        elif real is not None and unload.reason is Reason.UNKNOWN:
            scores.unknown[real.reason] += 1
        else:
            scores.wrong.append((unload, real))
    scores.unseen.update(real.reason for real in left)
    return scores


def _same(unload: Unloaded, real: TrueUnload, slack: float) -> bool:
    began = real.at if real.decided is None else min(real.decided, real.at)
    inside = unload.not_before - slack <= real.at and began <= unload.not_after + slack
    return real.model == unload.model.name and inside


def summary(scores: Scores, start: float) -> list[str]:
    """Write the last lines of a demonstration."""
    lines = ["The reasons, compared with what really happened on the simulated server:"]
    seen = sorted({*scores.right, *scores.unknown})
    for reason in seen:
        told = []
        if scores.right[reason]:
            told.append(f"{scores.right[reason]} right")
        if scores.unknown[reason]:
            told.append(f"{scores.unknown[reason]} unknown (polls alone cannot tell)")
        lines.append(f"  {reason:<17}{', '.join(told)}")
    for unload, real in scores.wrong:
        really = "was not unloaded" if real is None else f"was {real.reason}"
        lines.append(
            f"  wrong: {unload.model.name} at {moment(unload.not_after - start)} was called "
            f"{unload.reason} and {really}"
        )
    if scores.unseen:
        unseen = ", ".join(f"{reason} {n}" for reason, n in sorted(scores.unseen.items()))
        lines.append(f"  pending, or too short for the polls to see: {unseen}")
    if len(lines) == 1:
        lines.append("  nothing yet")
    return lines
