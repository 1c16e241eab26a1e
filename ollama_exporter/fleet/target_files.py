# SPDX-License-Identifier: Apache-2.0
"""The files of `targets-dir`: read again and again, each taken as a whole or not at all.

A file that cannot be used keeps what it last named. So a file with a mistake takes no target away.
A file that is written in place is half-written for a moment, and its half may be valid: it is read
once two looks in a row find it the same. One that replaces another is read at once.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from ollama_exporter.config.yaml_file import read_document
from ollama_exporter.errors import ConfigError, ConfigFileError, OllamaExporterError
from ollama_exporter.files import Signature, signature_of
from ollama_exporter.fleet.target_section import (
    MOST_TARGETS,
    TargetSettings,
    target_groups,
    targets,
    with_place,
)

INTERVAL: Final = 1.0  # seconds between two looks
BAD_FILE_LOOKS: Final = 10  # a bad file that has not changed is read again each tenth look
SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
MOST_FILES: Final = 1000
SETTING: Final = "targets-dir"
LEADS_NOWHERE: Final[Signature] = (0, 0, 0)  # of a link
Check = Callable[[TargetSettings], None]  # raises ConfigError
logger = logging.getLogger(__name__)


class TargetFile(Struct, frozen=True):
    """One file. `targets`: those it last named without a mistake; `problem`: of its content now."""

    signature: Signature
    targets: tuple[TargetSettings, ...] = ()
    problem: str = ""


Files = Mapping[str, TargetFile]  # by path


class TargetFolder:
    """Follows a folder. `check` raises ConfigError for a target that cannot be asked."""

    def __init__(self, folder: Path, *, check: Check) -> None:
        self._folder, self._check = folder, check
        self._files: Files = {}
        self._problem = ""
        self._looks = 0
        self._seen: dict[str, Signature] = {}  # by the last look

    @property
    def rejected(self) -> int:
        """The number of files whose content is not in force, and one for an unreadable folder."""
        return sum(bool(each.problem) for each in self._files.values()) + bool(self._problem)

    @property
    def targets(self) -> tuple[TargetSettings, ...]:
        """The targets in force."""
        return tuple(target for file in self._files.values() for target in file.targets)

    def first_read(self, taken: Iterable[str] = ()) -> None:
        """Read for the first time. Raises ConfigError for what cannot be used.

        `taken`: names that the configuration file has.
        """
        self.read(taken)
        if self._problem:
            raise ConfigFileError(self._folder, self._problem)
        for path, file in self._files.items():
            if file.problem:
                raise ConfigFileError(path, file.problem)

    def read(self, taken: Iterable[str] = ()) -> bool:
        """Read what has changed. Return whether the targets in force have. Blocks."""
        before = self.targets
        self._looks += 1
        try:
            signatures = signatures_in(self._folder)
        except OSError as err:
            self._report_folder(err.strerror or str(err))
            return False
        self._report_folder("")
        files = {
            path: self._kept(path, signature) or self._read(path, signature)
            for path, signature in signatures.items()
        }
        self._seen = signatures
        files = without_conflicts(files, self._files, taken)
        for path, file in files.items():
            self._report(path, file)
        self._files = files
        return self.targets != before

    def _kept(self, path: str, signature: Signature) -> TargetFile | None:
        """Return what stays in force; None if the file is to be read."""
        known = self._files.get(path)
        if known is None:
            return None
        if known.signature != signature:
            is_being_written = is_same_file(known.signature, signature)
            return known if is_being_written and self._seen.get(path) != signature else None
        # A taken name may have become free, a missing credential may be there now.
        again = bool(known.problem) and self._looks % BAD_FILE_LOOKS == 0
        return None if again else known

    def _read(self, path: str, signature: Signature) -> TargetFile:
        try:
            found = parse_target_file(Path(path))
            for each in found:
                self._check(each)
        except OllamaExporterError as err:
            kept = self._files.get(path)
            problem = err.accepted if isinstance(err, ConfigFileError) else str(err)
            return TargetFile(signature, kept.targets if kept else (), problem)
        return TargetFile(signature, found)

    def _report(self, path: str, file: TargetFile) -> None:
        known = self._files.get(path)
        if file.problem and (known is None or known.problem != file.problem):
            values = {"file": path, "err": file.problem, "kept": len(file.targets)}
            logger.warning("Targets file rejected", extra=values)
        elif not file.problem and (known is None or known.signature != file.signature):
            logger.info("Targets file read", extra={"file": path, "targets": len(file.targets)})

    def _report_folder(self, problem: str) -> None:
        if problem and problem != self._problem:
            values = {"folder": str(self._folder), "err": problem}
            logger.warning("Targets directory cannot be read", extra=values)
        self._problem = problem


def signatures_in(folder: Path) -> dict[str, Signature]:
    """Return the files of a folder by path, in order. Raises OSError."""
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if len(paths) > MOST_FILES:
        raise OSError(0, f"more than {MOST_FILES} files")
    found = {}
    for path in paths:
        try:
            found[str(path)] = signature_of(path)
        except OSError as err:
            if isinstance(err, FileNotFoundError) and not path.is_symlink():
                continue  # it was removed just now
            found[str(path)] = LEADS_NOWHERE  # a mount may be gone: what the file named stays
    return found


def is_same_file(one: Signature, other: Signature) -> bool:
    """Return whether both are of one file, whatever was written to it."""
    return one[-1] == other[-1]


def parse_target_file(path: Path) -> tuple[TargetSettings, ...]:
    """Return the targets that a file names. Raises ConfigError.

    It holds a mapping as section `targets`, or a list as Prometheus' file_sd_configs.
    """
    document = read_document(path)
    try:
        parse = target_groups if isinstance(document, list) else targets
        found = parse("targets", document)
    except ConfigError as err:
        raise ConfigFileError(path, str(err)) from err
    return with_place(found, str(path))


def without_conflicts(files: Files, before: Files, taken: Iterable[str]) -> dict[str, TargetFile]:
    """Return files none of whose targets has a name that an earlier file or `taken` has.

    A file with such a name is not used: what it named before stays, except for the taken names.
    """
    names = dict.fromkeys(taken, "the configuration file")
    result = {}
    for path, file in files.items():
        used = next((each.name for each in file.targets if each.name in names), None)
        if used is not None:
            kept = before.get(path)
            stay = tuple(x for x in (kept.targets if kept else ()) if x.name not in names)
            problem = f"the name {used!r} is in {names[used]} as well"
            file = TargetFile(file.signature, stay, problem)  # noqa: PLW2901 - the one in force
        if len(names) + len(file.targets) > MOST_TARGETS:
            problem = f"more than {MOST_TARGETS} targets in all"
            file = TargetFile(file.signature, (), problem)  # noqa: PLW2901 - likewise
        names |= {each.name: path for each in file.targets}
        result[path] = file
    return result
