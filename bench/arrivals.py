# SPDX-License-Identifier: Apache-2.0
"""Fifteen families of arrivals, real and made up: see tests/data/arrivals/README.md.

Each model of a family is a list of moments, seconds, at which requests for it come.
"""

import csv
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[1] / "tests" / "data" / "arrivals"
HOUR: Final = 3600.0
DAY: Final = 86400.0
LEAST_GAPS: Final = 10  # functions with fewer tell nothing
STACKED: Final = 72  # hours of an hour's trace, thinned and laid one after the other
DAYS: Final = 14  # of what is made up


@dataclass(frozen=True, slots=True)
class Model:
    """One model's requests; each takes `service` seconds."""

    arrivals: list[float]
    service: float

    def gaps(self) -> list[float]:
        """Return the idle gaps: end of a request to the start of the next."""
        pairs = zip(self.arrivals, self.arrivals[1:], strict=False)
        return [max(0.0, later - earlier - self.service) for earlier, later in pairs]


Family = list[Model]


def families(*, every: int = 1, copies: int = 8, seed: int = 7) -> dict[str, Family]:
    """Return all fifteen. `every`: only each n-th function; `copies`: of what is drawn."""
    rng = random.Random(seed)
    found = _functions(rng, every)
    code = _column("azure_llm_2023_code.csv", 0)
    chats = _sessions("mooncake_conversation_sessions.csv")
    for rate in (4.0, 20.0):
        alone = [[at] for at in code]
        found[f"Azure LLM code {rate:g}/h"] = _stacked(alone, rate, 3436.0, copies, rng)
        found[f"Mooncake sessions {rate:g}/h"] = _stacked(chats, rate, 3537.0, copies, rng)
    for name, make in MADE_UP.items():
        found[name] = [Model(make(rng), 8.0) for _ in range(copies)]
    return found


# -- recorded -------------------------------------------------------------------------------------


def _functions(rng: random.Random, every: int) -> dict[str, Family]:
    """Return functions of a day, by how often they are called; minutes get a phase of their own."""
    bands: dict[str, Family] = {
        "functions 10-47/day": [],
        "functions 47-300/day": [],
        "functions 300-720/day": [],
    }
    rare, middle, often = bands.values()
    with (FOLDER / "azure_functions_2019_day.csv").open(encoding="utf-8") as file:
        for row in list(csv.DictReader(file))[::every]:
            phase = rng.uniform(0, 50)
            minutes = map(int, row["active_minutes"].split())
            arrivals = sorted(60.0 * m + phase + rng.uniform(0, 2) for m in minutes)
            gaps = len(arrivals) - 1
            if gaps >= LEAST_GAPS:
                band = rare if gaps < 47 else middle if gaps < 300 else often
                band.append(Model(arrivals, 2.0))
    return bands


def _column(name: str, index: int) -> list[float]:
    with (FOLDER / name).open(encoding="utf-8") as file:
        return [float(row[index]) for row in list(csv.reader(file))[1:]]


def _sessions(name: str) -> list[list[float]]:
    sessions: dict[float, list[float]] = {}
    for at, session in zip(_column(name, 0), _column(name, 1), strict=True):
        sessions.setdefault(session, []).append(at)
    return list(sessions.values())


def _stacked(
    sessions: list[list[float]], rate: float, span: float, copies: int, rng: random.Random
) -> Family:
    """Thin a busy hour to `rate` requests an hour, and lay disjoint draws one after the other."""
    share = rate * span / HOUR / sum(map(len, sessions))
    family: Family = []
    for _ in range(copies):
        arrivals: list[float] = []
        for hour in range(STACKED):
            kept = (session for session in sessions if rng.random() < share)
            arrivals += sorted(hour * span + at for session in kept for at in session)
        family.append(Model(arrivals, 8.0))
    return family


# -- made up ---------------------------------------------------------------------------------------


def _poisson(rng: random.Random, rate: float, start: float, end: float) -> list[float]:
    arrivals, at = [], start
    while (at := at + rng.expovariate(rate / HOUR)) < end:
        arrivals.append(at)
    return arrivals


def _bursty(rng: random.Random, rate: float) -> list[float]:
    """Sessions of eight turns on average, with think times of a minute or so."""
    arrivals: list[float] = []
    for start in _poisson(rng, rate / 8, 0.0, DAYS * DAY):
        at = start
        arrivals.append(at)
        while rng.random() >= 1 / 8:
            at += rng.lognormvariate(math.log(75), 1.0)
            arrivals.append(at)
    return sorted(arrivals)


def _on_and_off(rng: random.Random) -> list[float]:
    """Two hours of twelve requests an hour, ten hours of hardly any, on average."""
    arrivals: list[float] = []
    at, on = 0.0, True
    while at < DAYS * DAY:
        end = at + rng.expovariate(1 / ((2 if on else 10) * HOUR))
        arrivals += _poisson(rng, 12.0 if on else 0.05, at, end)
        at, on = end, not on
    return [each for each in arrivals if each < DAYS * DAY]


def _office(rng: random.Random) -> list[float]:
    """Sessions from nine to six on weekdays, hardly any besides."""

    def kept(at: float) -> bool:
        hour, day = at % DAY / HOUR, at // DAY % 7
        return (9 < hour < 18 and day < 5) or rng.random() < 0.0125

    return [at for at in _bursty(rng, 8.0) if kept(at)]


def _hourly(rng: random.Random) -> list[float]:
    return [300 + HOUR * n + rng.uniform(0, 5) for n in range(DAYS * 24)]


def _quarterly_and_people(rng: random.Random) -> list[float]:
    phase = rng.uniform(0, 5)
    jobs = [60 + 900.0 * n + phase for n in range(DAYS * 96)]
    return sorted([*jobs, *_bursty(rng, 2.0)])


def _nightly(rng: random.Random) -> list[float]:
    """Thirty requests at two in the morning."""
    arrivals: list[float] = []
    for day in range(DAYS):
        at = day * DAY + 2 * HOUR
        for _ in range(30):
            at += rng.expovariate(1 / 40)
            arrivals.append(at)
    return arrivals


def _every(rate: float) -> Callable[[random.Random], list[float]]:
    return lambda rng: _poisson(rng, rate, 0.0, DAYS * DAY)


MADE_UP: Final[dict[str, Callable[[random.Random], list[float]]]] = {
    "Poisson 0.5/h": _every(0.5),
    "Poisson 4/h": _every(4.0),
    "bursty sessions": lambda rng: _bursty(rng, 2.0),
    "on and off": _on_and_off,
    "office hours": _office,
    "hourly job": _hourly,
    "job every 15 min and people": _quarterly_and_people,
    "nightly batch": _nightly,
}


def pooled(models: Iterable[Model]) -> int:
    """Count the gaps of a family."""
    return sum(max(0, len(model.arrivals) - 1) for model in models)
