# SPDX-License-Identifier: Apache-2.0
"""Log lines on stderr, in logfmt or JSON: a constant message, the values in keys."""

import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from ollama_exporter.foreign_text import mask_user_info

# What a LogRecord has by itself; everything else came in `extra`.
OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
NAMESPACE: Final = "ollama_exporter"
LONGEST: Final = 16384  # characters of one value; a traceback is one


class Formatter(logging.Formatter):
    """One line for each record."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is one value in it."""
        values = {key: _bounded(value) for key, value in self._values(record)}
        if self._as_json:
            return _json(values)
        return " ".join(f"{key}={_quoted(value)}" for key, value in values.items())

    def _values(self, record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
        moment = datetime.fromtimestamp(record.created, UTC)
        yield "time", moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield "level", record.levelname.lower()
        yield "logger", _short(record.name)
        yield "msg", record.getMessage()
        yield from ((key, value) for key, value in vars(record).items() if key not in OWN)
        if record.exc_info:
            yield "err", self.formatException(record.exc_info)


def setup(*, level: str, as_json: bool, counter: logging.Handler | None = None) -> None:
    """Send this package's log to stderr. `counter` sees each line as well."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(as_json=as_json))
    # uvicorn warns of each bad request and of each one over the limit: whoever can reach the port
    # could fill the disk. Its errors, and asyncio's, come in our form.
    for name, least in ((NAMESPACE, level.upper()), ("uvicorn", "ERROR"), ("asyncio", "ERROR")):
        logger = logging.getLogger(name)
        logger.handlers = [handler, *([] if counter is None else [counter])]
        logger.setLevel(least)
        logger.propagate = False


def _short(name: str) -> str:
    """Return a logger's name without the package; `poller.poller` becomes `poller`."""
    name = name.removeprefix(f"{NAMESPACE}.")
    room, _, file = name.rpartition(".")
    return room if room == file else name


def _quoted(value: object) -> str:
    text = str(value)
    if text and not any(c in text for c in ' "=\\') and text.isprintable():
        return text
    return _json(text)


def _bounded(value: object) -> object:
    """Return a value with the user info of URLs masked, and cut at `LONGEST`."""
    if not isinstance(value, str | Exception):
        return value
    text = mask_user_info(str(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _json(value: object) -> str:
    """Return JSON in which every character is printable: some terminals act on the others."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    if text.isprintable():
        return text
    return json.dumps(value, default=str).replace("\x7f", "\\u007f")
