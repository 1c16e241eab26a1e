# SPDX-License-Identifier: Apache-2.0
"""A server's log as a file, laid beside a recording."""

import gzip
import zlib
from pathlib import Path
from typing import Final

from ollama_exporter.errors import RecordingError
from ollama_exporter.host.log.patterns import LONGEST_LINE, read
from ollama_exporter.residency.facts import LogSaid

GZIP: Final = b"\x1f\x8b"


def read_log(path: Path, *, debug: bool = True) -> tuple[LogSaid, ...]:
    """Read the log of a server, plain or gzip, also as a journal that mixes several streams.

    Lines that are not known say nothing; without `debug` neither do those of that level. Each fact
    has the moment that its line bears, in Unix seconds. Raises RecordingError with the number of
    the line at which the file cannot be read.
    """
    facts: list[LogSaid] = []
    number = 0
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            file = gzip.GzipFile(fileobj=raw) if packed else raw
            while text := file.readline(LONGEST_LINE):
                number += 1
                line = read(text.decode("utf-8", "replace"))
                if line is None or line.written is None or (line.level == "debug" and not debug):
                    continue
                fact = line.fact(line.written, lambda moment: moment)
                if fact is not None:
                    facts.append(fact)
    except (OSError, EOFError) as err:
        raise RecordingError(number, f"cannot be read: {err}") from err
    except zlib.error as err:
        raise RecordingError(number, f"damaged gzip data: {err}") from err
    return tuple(sorted(facts, key=lambda fact: fact.at))
