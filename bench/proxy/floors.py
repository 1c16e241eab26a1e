# SPDX-License-Identifier: Apache-2.0
"""What the floor of the proxy is made of, step by step: python -m bench.proxy.floors [--rounds 3].

Relays on one loop that do a step more each, then the proxy without its recorder, with it alone, and
the whole exporter. `--write docs/performance.md` writes the table there.
"""

import argparse
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from bench.proxy.candidates import HERE, Candidate, Running, candidates, running, say
from bench.proxy.run import asked, chunks, first, memory, small, stage
from bench.run import machine, write_between

RELAY: Final = f"{sys.executable} {HERE / 'relay.py'} {{port}} {{server}}"
STAGE: Final = f"{sys.executable} {HERE / 'stage.py'} {{port}} {{server}}"
STEPS: Final = (
    Candidate("bytes alone, on asyncio", f"{RELAY} bytes asyncio"),
    Candidate("bytes alone, on uvloop", f"{RELAY} bytes uvloop"),
    Candidate("and parses with llhttp", f"{RELAY} llhttp uvloop"),
    Candidate("and writes heads and bodies anew", f"{RELAY} heads uvloop"),
    Candidate("our proxy without metrics", f"{STAGE} uvloop none"),
    Candidate("and records", f"{STAGE} uvloop metrics"),
)
OTHERS: Final = {  # name of a candidate -> name here
    "ours, uvloop": "ollama_exporter, whole",
    "nginx": "nginx",
    "Go ReverseProxy": "Go's httputil.ReverseProxy",
}
WIDTH: Final = 120  # of the page
Seen = dict[tuple[str, str], list[float]]  # by candidate and column


def opened(proxy: Running, work: Path) -> dict[str, float]:
    """Measure what 1,000 open streams add to the memory, MiB."""
    found = memory(proxy, work)
    return {"streams": found["streams"] - found["idle"]}


# By the name of a measure: what it measures, and its figures with the heads of their columns.
MEASURES: Final[
    Mapping[str, tuple[Callable[[Running, Path], Mapping[str, float]], Mapping[str, str]]]
] = {
    "small": (small, {"cpu_us": "*small*, µs"}),
    "asked": (asked, {"cpu_us": "*asked*, µs"}),
    "chunks": (chunks, {"cpu_us": "streamed chunk, µs"}),
    "first": (first, {"first_p50": "first record, p50, ms", "first_p99": "p99, ms"}),
    "memory": (opened, {"streams": "1,000 streams, MiB"}),
}


def ticks(proxy: Running) -> tuple[int, int]:
    """Return the CPU time of a process in user mode and in the kernel so far, in clock ticks."""
    fields = Path(f"/proc/{proxy.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def measure(names: Sequence[str], *, rounds: int) -> Seen:
    """Measure every candidate in every round, in random order."""
    seen: Seen = {}
    with stage() as (work, server):
        for name in names:
            for number in range(rounds):
                everyone = list(everyone_of(work))
                for who, each in random.sample(everyone, len(everyone)):
                    say(f"{name}, round {number + 1}: {who}")
                    try:
                        with running(each, work, server=server) as proxy:
                            found = _measured(name, proxy, work)
                    except (ValueError, TimeoutError, subprocess.SubprocessError, OSError) as err:
                        say(f"  failed, left out: {str(err)[:200]}")
                        continue
                    for column, value in found.items():
                        seen.setdefault((who, column), []).append(value)
    return seen


def everyone_of(work: Path) -> list[tuple[str, Candidate]]:
    """Return the steps and their peers, with the names of their rows."""
    known = {each.name: each for each in candidates(work, [])}
    peers = [(title, known[name]) for name, title in OTHERS.items() if name in known]
    return [*((each.name, each) for each in STEPS), *peers]


def _measured(name: str, proxy: Running, work: Path) -> dict[str, float]:
    """Return the figures of a measure by column, and the kernel's part of the CPU."""
    measured, figures = MEASURES[name]
    before = ticks(proxy)
    found = measured(proxy, work)
    user, kernel = (now - then for now, then in zip(ticks(proxy), before, strict=True))
    return {
        **{column: found[figure] for figure, column in figures.items()},
        f"kernel {name}": 100 * kernel / max(1, user + kernel),
    }


def tables(seen: Seen, names: Sequence[str]) -> str:
    """Write the figures as tables in Markdown: CPU, then times and memory."""
    columns = [(name, column) for name in names for column in MEASURES[name][1].values()]
    cpu = [each for each in columns if _is_cpu(each[1])]
    rest = [each for each in columns if not _is_cpu(each[1])]
    return "\n".join(_table(seen, each) for each in (cpu, rest) if each)


def _table(seen: Seen, columns: Sequence[tuple[str, str]]) -> str:
    rows = [*(each.name for each in STEPS), *OTHERS.values()]
    lines = [
        f"| | {' | '.join(column for _, column in columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for who in rows:
        cells = [_cell(seen, who, name, column) for name, column in columns]
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _is_cpu(column: str) -> bool:
    return column.endswith("µs")


def _cell(seen: Seen, who: str, name: str, column: str) -> str:
    """Return a figure with its spread, and with the kernel's part if it is CPU."""
    values = seen.get((who, column))
    if not values:
        return ""
    text = f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g}"
    kernel = seen.get((who, f"kernel {name}"), [0.0])
    return f"{text}; {median(kernel):.0f} %)" if _is_cpu(column) else f"{text})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    seen = measure(options.only, rounds=options.rounds)
    about = (
        f"{options.rounds} rounds in one run: median (least to most; of CPU, the kernel's part). "
        f"{machine()}. Load of the machine: {load:.1f} before, {os.getloadavg()[0]:.1f} after."
    )
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        about += " Bench, proxies and peers had a real-time priority."
    text = f"{tables(seen, options.only)}\n{textwrap.fill(about, WIDTH)}\n"
    print(text)
    if options.write is not None:
        write_between(options.write, "proxy floors", text)


if __name__ == "__main__":
    main()
