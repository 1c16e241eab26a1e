# SPDX-License-Identifier: Apache-2.0
"""A day of scrapes, written as blocks of a Prometheus database by promtool."""

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.metrics_core import Metric

from dashboards.pictures.day import DAY, fleet
from dashboards.pictures.virtual import Virtual

SCRAPE: Final = 30.0  # seconds
BLOCK: Final = 7200  # seconds of one block, as Prometheus cuts them


def write(promtool: str, tsdb: Path, scratch: Path, *, now: float) -> None:
    """Let a day pass that ends `now`, and write it into a database."""
    start = (now - DAY) // SCRAPE * SCRAPE
    scratch.mkdir(parents=True, exist_ok=True)
    lines: dict[int, list[str]] = {}
    for place, (instance, script) in enumerate(fleet().items(), start=1):
        labels = f'job="ollama",instance="{instance}"'
        for scraped in Virtual(script, start).scrapes(SCRAPE):
            block = lines.setdefault(int(scraped.at // BLOCK), [])
            block.append(f"up{{{labels}}} 1 {scraped.at:.0f}\n")
            block.extend(_lines(scraped.families, labels, f"{scraped.at:.0f}"))
        print(f"pictures: day of {instance} passed ({place} of 3)", file=sys.stderr)
    for number, block in sorted(lines.items()):
        file = scratch / f"{number}.om"
        file.write_text("".join(block) + "# EOF\n", encoding="utf-8")
        command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
        subprocess.run([*command, str(file), str(tsdb)], check=True, capture_output=True)
        file.unlink()
    print(f"pictures: {len(lines)} blocks written", file=sys.stderr)


def _lines(families: list[Metric], labels: str, at: str) -> Iterator[str]:
    for family in families:
        for sample in family.samples:
            own = "".join(f',{name}="{value}"' for name, value in sample.labels.items())
            yield f"{sample.name}{{{labels}{own}}} {_number(sample.value)} {at}\n"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), now=time.time())
