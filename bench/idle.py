# SPDX-License-Identifier: Apache-2.0
"""CPU of an exporter that nobody asks, beside five resident models whose processes it watches.

python -m bench.idle [--windows 3]
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from bench.run import compiled, free_port, scheduled, stage

SETTLED: Final = 20.0  # seconds until the server is found and the inventory is known
WINDOW: Final = 20.0  # seconds of each figure; there are one or two polls in it
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "all parts": (),
    "runners not asked": ("--collector.runner=off",),
    "processes not watched": ("--collector.processes=off",),
}


def measure_idle(
    windows: int, kinds: Mapping[str, Sequence[str]] = KINDS
) -> dict[str, list[float]]:
    """Return % of a core by kind. The exporters of all kinds run at the same time."""
    with stage("--processes") as url:
        running = {kind: _exporter(url, options) for kind, options in kinds.items()}
        found: dict[str, list[float]] = {kind: [] for kind in kinds}
        try:
            time.sleep(SETTLED)
            for _ in range(windows):
                before = {kind: scheduled(run.pid) for kind, run in running.items()}
                began = time.perf_counter()
                time.sleep(WINDOW)
                took = time.perf_counter() - began
                for kind, run in running.items():
                    found[kind].append((scheduled(run.pid) - before[kind]) / took * 100)
        finally:
            for run in running.values():
                run.terminate()
                run.wait(10)
    return found


def _exporter(url: str, options: Sequence[str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "ollama_exporter", "serve", *options]
    command.append(f"--web.listen-address=127.0.0.1:{free_port()}")
    environment = compiled() | {"OLLAMA_HOST": url}
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=3)
    options = parser.parse_args()
    for kind, values in measure_idle(options.windows).items():
        low, high = min(values), max(values)
        print(f"{kind}: {statistics.median(values):.3f} % ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
