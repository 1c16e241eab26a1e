# SPDX-License-Identifier: Apache-2.0
"""The state file (opt-in): with it, unloads during a restart of the exporter are still noticed.

The path may be mistyped, and others may have put something there: only regular files are read and
replaced, links are not followed, and a file that no exporter wrote is never touched.
"""

import errno
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from msgspec import Struct, field

from ollama_exporter.actions.keep_warm.saved_history import SavedKeepWarm
from ollama_exporter.actions.saved_actions import SavedActions
from ollama_exporter.actions.saved_options import SavedOptions
from ollama_exporter.advice.saved_usage import SavedUsage
from ollama_exporter.clock import Timeline
from ollama_exporter.config.schema import Settings
from ollama_exporter.errors import ConfigError
from ollama_exporter.files import create_beside, move_aside, read_regular
from ollama_exporter.moments import moved
from ollama_exporter.residency.saved_state import Saved, from_builtins, to_builtins
from ollama_exporter.story.past import Past, SavedPast

VERSION: Final = 1
EVERY: Final = 30.0  # seconds between two writes; one more at the end
LEAST_PAUSE: Final = 1.0  # seconds between two writes, where keep-warm wants one soon
LARGEST: Final = 16 * 2**20
LEAST_STEP: Final = 0.5  # seconds; less is the discipline of a clock, and changes nothing
RECORDS: Final = 200  # of the past that are written at a time
WRITER: Final = {"written_by": "ollama_exporter"}
OURS: Final = json.dumps(WRITER)[:-1].encode() + b","  # how each file begins that we write
EARLIER: Final = {"version": int, "url": str, "state": dict}  # all that files had before
DAMAGED: Final = (ValueError, TypeError, KeyError, RecursionError, msgspec.ValidationError)
logger = logging.getLogger(__name__)


class SavedState(Struct, frozen=True):
    """What one process leaves to the next."""

    residency: Saved
    usage: dict[str, SavedUsage] = field(default_factory=dict)  # by label
    actions: SavedActions = field(default_factory=SavedActions)
    past: SavedPast = field(default_factory=SavedPast)
    skew: float = 0.0  # seconds by which the wall clock was ahead of the process' timeline

    def on(self, timeline: Timeline) -> Self:
        """Return it with its moments on another timeline, none of them later than its present.

        A timeline takes no part in steps of the wall clock, nor in a suspend. A clock that was set
        back, or that is not set yet, does not tell when the file was written: it counts as new.
        """
        now, last = timeline.now(), self.residency.last
        by = self.skew - (timeline.wall_now() - now)
        if last is not None and last.ended + by > now:
            logger.warning("State file is dated in the future; it counts as written now")
            by = now - last.ended
        elif abs(by) < LEAST_STEP:
            return self
        return moved(self, by)

    def pieces(self) -> Iterator[str]:
        """Yield the state as it stands in the file, piece by piece.

        The past of a busy day has 2 MB. In one piece it would take 19 MB for a moment, and hold the
        interpreter, and with it all relayed answers, for 30 ms.
        """
        few: dict[str, Any] = {
            **to_builtins(self.residency),
            "habits": msgspec.to_builtins(self.usage),
            "keep_warm": msgspec.to_builtins(self.actions.keep_warm),
            "options": msgspec.to_builtins(self.actions.options),
        }
        few["skew"] = self.skew
        yield json.dumps(few).removesuffix("}")
        saved = self.past
        yield f', "past": {{"at": {json.dumps(saved.at)}, "most": {saved.most}, "past": {{'
        for number, kind in enumerate(Past.__struct_fields__):
            yield f'{", " if number else ""}"{kind}": ['
            records = getattr(saved.past, kind)
            for start in range(0, len(records), RECORDS):
                piece = json.dumps(msgspec.to_builtins(records[start : start + RECORDS]))
                yield f"{', ' if start else ''}{piece[1:-1]}"
            yield "]"
        yield "}}}"

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """Return a state that was read from a file. Raises what `DAMAGED` lists."""
        usage = msgspec.convert(document.get("habits", {}), dict[str, SavedUsage])
        keep_warm = msgspec.convert(document.get("keep_warm", {}), SavedKeepWarm)
        options = msgspec.convert(document.get("options", {}), SavedOptions)
        past = msgspec.convert(document.get("past", {}), SavedPast)
        skew = msgspec.convert(document.get("skew", 0.0), float)
        return cls(from_builtins(document), usage, SavedActions(keep_warm, options), past, skew)


class StateFile:
    """Reads at the start, writes now and then. A failing disk is logged once, and tried again."""

    def __init__(self, path: Path, *, url: str) -> None:
        self._path = path
        self._url = url
        self._written = b""  # the digest of what is in the file
        self._failing = False
        self._one_at_a_time = threading.Lock()  # the last write may meet one in a thread

    def check(self) -> None:
        """Raise ConfigError if the file cannot be used: as at the start, but nothing is changed."""
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            raise self._refused("accepted: a file in a folder that exists and may be written")
        self._content()

    def _refused(self, why: str) -> ConfigError:
        return ConfigError("state.file", str(self._path), why)

    def _content(self) -> bytes:
        """Return the file's content, empty if there is none. Raises ConfigError."""
        try:
            content = read_regular(self._path, limit=LARGEST, follow=False)
        except FileNotFoundError:
            return b""
        except OSError as err:
            why = "a symbolic link" if err.errno == errno.ELOOP else err.strerror
            raise self._refused(f"accepted: a regular file ({why})") from err
        if content and not is_ours(content):
            raise self._refused("it exists and no exporter wrote it; remove it or name another")
        return content

    def _decode(self, content: bytes) -> SavedState | None:
        """Return the state, None for another version or server. Raises what `DAMAGED` lists."""
        document = json.loads(content)
        ours = document["version"] == VERSION and document["url"] == self._url
        return SavedState.of(document["state"]) if ours else None

    def peek(self) -> SavedState | None:
        """Return what an exporter has saved, None if nothing is of use. Changes nothing."""
        with suppress(ConfigError, *DAMAGED):
            return self._decode(self._content())
        return None

    def read(self) -> SavedState | None:
        """Return what was saved. Raises ConfigError.

        A damaged state, or one of another server or version, is moved to FILE.bad, or FILE.bad.2
        and so on if there is one.
        """
        content = self._content()
        if not content:
            return None
        try:
            saved = self._decode(content)
            if saved is not None:
                return saved
            why = "of another version or server"
        except DAMAGED as err:
            why = str(err)
        self._set_aside(why)
        return None

    def write(self, state: SavedState) -> None:
        """Write if something changed: a new file, then renamed, so that no file is half written."""
        head = json.dumps({**WRITER, "version": VERSION, "url": self._url}).removesuffix("}")
        pieces = [x.encode() for x in (head, ', "state": ', *state.pieces(), "}")]
        digest = hashlib.blake2b()
        for piece in pieces:
            digest.update(piece)
        with self._one_at_a_time:
            if digest.digest() != self._written:
                self._replace(pieces, digest.digest())

    def _replace(self, pieces: Iterable[bytes], digest: bytes) -> None:
        try:
            beside, descriptor = create_beside(self._path, beginning=OURS)
        except OSError as err:
            self._fail(err)
            return
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            self._content()  # somebody may have put something there meanwhile
            beside.replace(self._path)
        except (OSError, ConfigError) as err:
            with suppress(OSError):
                beside.unlink()
            self._fail(err)
        else:
            self._written, self._failing = digest, False

    def _fail(self, err: OSError | ConfigError) -> None:
        if not self._failing:
            logger.error(
                "State file cannot be written", extra={"file": str(self._path), "err": str(err)}
            )
        self._failing = True

    def _set_aside(self, why: str) -> None:
        aside: Path | None = None
        with suppress(OSError):
            aside = move_aside(self._path, suffix=".bad")
        where = "nowhere: it is replaced" if aside is None else str(aside)
        logger.warning(
            "State file set aside", extra={"file": str(self._path), "aside": where, "err": why}
        )


def is_ours(content: bytes) -> bool:
    """Return whether an exporter wrote this, also if it is damaged."""
    if content.startswith(OURS):
        return True
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(document, dict)
        and document.keys() == EARLIER.keys()
        and all(isinstance(document[key], kind) for key, kind in EARLIER.items())
    )


def state_file_of(settings: Settings) -> StateFile | None:
    """Return the state file that the settings name. Raises ConfigError if it cannot be used."""
    if settings.state_file is None:
        return None
    state_file = StateFile(settings.state_file, url=settings.ollama_url)
    state_file.check()
    return state_file
