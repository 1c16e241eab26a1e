# SPDX-License-Identifier: Apache-2.0
"""python -m tests.fuzz [SECONDS] [PARSER...]: fuzz each parser with atheris, guided by coverage.

What it finds is written to build/fuzz, with the failure. The corpus grows there too; the committed
one, in tests/fuzz/corpus, is what the tests run.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
FOUND: Final = HERE.parents[1] / "build" / "fuzz"
LONGEST: Final = 4096  # bytes of an input
USUAL: Final = 60  # seconds


def main(arguments: list[str]) -> int:
    """Fuzz in one process for each parser; return 1 if anything was found."""
    from tests.fuzz.parsers import PARSERS  # noqa: PLC0415 - not instrumented here

    seconds = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else USUAL
    unknown = set(arguments) - set(PARSERS)
    if unknown:
        sys.stderr.write(f"fuzz: no parser {', '.join(unknown)}; known: {', '.join(PARSERS)}\n")
        return 2
    failed = []
    for name in arguments or PARSERS:
        grown = FOUND / name
        grown.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.fuzz.guided", name, str(grown)]
        command += [str(HERE / "corpus" / name), f"-max_total_time={seconds}"]
        command += [f"-artifact_prefix={FOUND}/{name}-", f"-max_len={LONGEST}", "-timeout=20"]
        done = subprocess.run(
            [*command, "-rss_limit_mb=2048", "-print_final_stats=1"],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
        )
        runs = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        count = runs[-1].split()[-1] if runs else "?"
        sys.stdout.write(f"{name}: {count} inputs, {'FOUND' if done.returncode else 'nothing'}\n")
        sys.stdout.flush()
        if done.returncode:
            failed.append(name)
            (FOUND / f"{name}.log").write_text(done.stdout + done.stderr, "utf-8")
            sys.stdout.write("\n".join((done.stdout + done.stderr).splitlines()[-30:]) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
