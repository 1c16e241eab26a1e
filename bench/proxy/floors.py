# SPDX-License-Identifier: Apache-2.0
"""What the floor of the proxy is made of, step by step: python -m bench.proxy.floors [--rounds 3].

Relays on one loop that do a step more each, then the proxy without and with its recorder. Each
figure is CPU, and beside it the part of it that the kernel takes; `first` is ms.
"""

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Final

from bench.proxy.candidates import HERE, Candidate, Running, candidates, running, say
from bench.proxy.run import asked, chunks, first, small, stage

RELAY: Final = f"{sys.executable} {HERE / 'relay.py'} {{port}} {{server}}"
STEPS: Final = (
    Candidate("relay on asyncio that parses nothing", f"{RELAY} bytes asyncio"),
    Candidate("relay on uvloop that parses nothing", f"{RELAY} bytes uvloop"),
    Candidate("and parses with llhttp", f"{RELAY} llhttp uvloop"),
    Candidate("and writes heads and bodies anew", f"{RELAY} heads uvloop"),
)
OURS: Final = ("ours, no metrics", "ours, uvloop", "nginx", "Go ReverseProxy")
MEASURES: Final[dict[str, tuple[Callable[[Running, Path], dict[str, float]], tuple[str, ...]]]] = {
    "small": (small, ("cpu_us",)),
    "asked": (asked, ("cpu_us",)),
    "chunks": (chunks, ("cpu_us",)),
    "first": (first, ("first_p50", "first_p99")),
}


def ticks(proxy: Running) -> tuple[int, int]:
    """Return the CPU time of a process in user mode and in the kernel so far, in clock ticks."""
    fields = Path(f"/proc/{proxy.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(MEASURES), default=list(MEASURES))
    options = parser.parse_args()
    with stage() as (work, server):
        known = {each.name: each for each in candidates(work, [])}
        everyone = [*STEPS, *(known[name] for name in OURS if name in known)]
        seen: dict[tuple[str, str], list[float]] = {}
        for name in options.only:
            measure, figures = MEASURES[name]
            for number in range(options.rounds):
                for each in random.sample(everyone, len(everyone)):
                    say(f"{name}, round {number + 1}: {each.name}")
                    try:
                        with running(each, work, server=server) as proxy:
                            before = ticks(proxy)
                            found = measure(proxy, work)
                            user, kernel = (
                                x - y for x, y in zip(ticks(proxy), before, strict=True)
                            )
                            found["kernel"] = kernel / max(1, user + kernel)
                    except (ValueError, TimeoutError, subprocess.SubprocessError, OSError) as err:
                        say(f"  failed, left out: {str(err)[:200]}")
                        continue
                    for figure in (*figures, "kernel"):
                        seen.setdefault((each.name, f"{name} {figure}"), []).append(found[figure])
    columns = [f"{name} {x}" for name in options.only for x in (*MEASURES[name][1], "kernel")]
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for each in everyone:
        cells = [_cell(seen.get((each.name, column), [])) for column in columns]
        print(f"| {each.name} | {' | '.join(cells)} |")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")


def _cell(values: list[float]) -> str:
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})" if values else ""


if __name__ == "__main__":
    main()
