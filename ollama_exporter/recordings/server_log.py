# SPDX-License-Identifier: Apache-2.0
"""Reads the server's log from a file, to replay it together with a recording."""

from pathlib import Path

from ollama_exporter.host.log.patterns import LONGEST_LINE, read
from ollama_exporter.host.log.unwrap import LONGEST_WRAPPED, LineUnwrapper
from ollama_exporter.recordings.unpack import numbered_lines
from ollama_exporter.residency.facts import LogSaid


def read_server_log(path: Path, *, debug: bool = True) -> tuple[LogSaid, ...]:
    """Read a server's log, plain or gzip. A container's and a journal of several services work too.

    Unknown lines are skipped, and those of level debug unless `debug`. A fact has the moment that
    its line states, in Unix seconds. Raises RecordingError with the number of the bad line.
    """
    facts: list[LogSaid] = []
    unwrapper = LineUnwrapper()
    for _, wrapped in numbered_lines(path, longest=LONGEST_WRAPPED):
        text = unwrapper.feed(wrapped.rstrip(b"\r\n")) or b""
        line = read(text[:LONGEST_LINE].decode("utf-8", "replace"))
        if line is None or line.written is None or (line.level == "debug" and not debug):
            continue
        fact = line.fact(line.written, lambda moment: moment)
        if fact is not None:
            facts.append(fact)
    return tuple(sorted(facts, key=lambda fact: fact.at))
