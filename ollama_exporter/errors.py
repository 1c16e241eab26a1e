# SPDX-License-Identifier: Apache-2.0
"""All errors of this package.

OllamaExporterError
├── ConfigError       a flag, variable or key of the configuration file is not acceptable
│   ├── ConfigFileError     the configuration file cannot be read, or holds an unknown key
│   └── RestartNeededError  a reload cannot change this setting
├── TargetError       a request got no usable answer; `/metrics` counts its reason
├── ProbeRefusedError a free probe asks for what may not be reached
├── UnknownTargetError  a probe asks for a name that the configuration does not have
├── TooManyTargetsError  free probes ask for more targets than are watched at a time
├── ServerError       a command cannot use the Ollama server; names it and says what to do
├── RequestError      the server refuses an action; carries its status and its error text
├── RecordingError    a recording cannot be read; carries the line number
├── SourceError       an exporter or Prometheus that is asked gives no usable answer
├── StateError        a state file cannot be read or written
├── BundleError       dashboards or rules are missing, or cannot be written
├── MissingPackageError  an optional package is not installed; says how to go on without it
└── StartError        the exporter cannot serve: a port is in use

Foreign exceptions become one of these at one boundary each: httpx's in `protocol/client.py`, YAML's
and msgspec's in `config/load.py`, those of recordings in `recordings/read_recording.py`, those of
whoever is asked by a command in `bounded_client.py`.
"""

from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ollama_exporter.foreign_text import mask_user_info

# Before what is accepted, where that is a form of the value; and how other such phrases begin.
ACCEPTED: Final = "accepted: "
PHRASES: Final = (
    *("a ", "an ", "at most ", "at least ", "one ", "the file of ", "the text of "),
    *("true or false", "printable ", "certificates ", "user names "),
)
# Bounds of a value that a message shows: it may be a mapping whose aliases unfold to gigabytes.
LONGEST_SHOWN: Final = 200  # characters
MOST_SHOWN: Final = 6  # items of a list or a mapping
DEEPEST_SHOWN: Final = 3


class OllamaExporterError(Exception):
    """Base of every error that this package raises itself."""


class ConfigError(OllamaExporterError):
    """A setting that cannot be accepted: names the field, its value and what is accepted."""

    def __init__(self, field: str, value: object, accepted: str) -> None:
        self.field = field
        self.value = value
        self.accepted = accepted
        super().__init__(self._message())

    def _message(self) -> str:
        shown, wanted = mask_user_info(plain(self.value)), self.accepted.removeprefix(ACCEPTED)
        if wanted == self.accepted and not wanted.startswith(PHRASES):
            return f"{self.field}: {shown}: {wanted}"
        form, semicolon, more = wanted.partition("; ")
        return f"{self.field}: must be {form}, not {shown}{semicolon}{more}"


class ConfigFileError(ConfigError):
    """A configuration file that cannot be read, or a key in it that is unknown."""

    def __init__(self, file: object, problem: str) -> None:
        super().__init__("config.file", str(file), problem)

    def _message(self) -> str:
        return f"{self.value}: {self.accepted}"


class RestartNeededError(ConfigError):
    """A setting that a reload cannot change."""

    def __init__(self, field: str, before: str, after: str) -> None:
        super().__init__(field, after, f"changing it from {before} to {after} needs a restart")

    def _message(self) -> str:
        return f"{self.field}: {self.accepted}"


class FailureReason(StrEnum):
    """Why a poll failed: the values of `reason` of `ollama_poll_failures_total`."""

    REFUSED = "refused"  # no connection: the host answers, and nothing listens there
    UNREACHABLE = "unreachable"  # no connection: no route, name not found, nothing to connect with
    TIMEOUT = "timeout"  # no complete answer within the poll's time
    RESET = "reset"  # the connection broke before the answer was complete, TLS failures too
    STATUS = "status"  # an answer other than 200
    MALFORMED = "malformed"  # an answer that is not what the API promises, or too big


class TargetError(OllamaExporterError):
    """A request to the Ollama server that yielded no usable answer."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class ProbeRefusedError(OllamaExporterError):
    """A probe asks for an address that the list does not allow. Its text is for the asker."""


class UnknownTargetError(OllamaExporterError):
    """A probe asks for a name that the configuration does not have."""

    def __init__(self, target: str) -> None:
        self.target = target
        super().__init__("no target has this name; /sd lists them")


class TooManyTargetsError(OllamaExporterError):
    """Free probes ask for more targets than are watched at a time."""

    def __init__(self, most: int) -> None:
        super().__init__(f"probes of URLs watch {most} targets already; try again in some minutes")


class ServerError(OllamaExporterError):
    """A command cannot use the Ollama server: names the server, and says what to do."""


class RequestError(OllamaExporterError):
    """The server refuses what we ask it to do: HTTP status, and the text of its error."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(f"the server answers {status}: {text}")


class RecordingError(OllamaExporterError):
    """A recording that cannot be read; `line` counts from 1, 0 for the file as a whole."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        self.path = path
        self.line = line
        self.why = why
        super().__init__(f"{path}, line {line}: {why}" if line else f"{path}: {why}")


class SourceError(OllamaExporterError):
    """An exporter or Prometheus that is asked gives no usable answer.

    `answered`: something listens there, so another way is no way out; `status`: of its answer.
    """

    def __init__(self, text: str, *, answered: bool = True, status: int | None = None) -> None:
        self.answered, self.status = answered, status
        super().__init__(text)


class StateError(OllamaExporterError):
    """A state file that cannot be read or written."""


class BundleError(OllamaExporterError):
    """Bundled files that are not there, or that cannot be written where they are wanted."""


class MissingPackageError(OllamaExporterError, ImportError):
    """An optional package is not installed."""


class StartError(OllamaExporterError):
    """The exporter cannot serve: a listen address is taken or not ours."""


def plain(value: object, *, depth: int = 0) -> str:
    """Return a value as one writes it in the configuration, shortened."""
    if isinstance(value, list | tuple | dict):
        return "…" if depth == DEEPEST_SHOWN else _items(value, depth=depth + 1)
    match value:
        case None:
            text = "empty"
        case bool():
            text = "true" if value else "false"
        case float():
            text = f"{value:.15g}"
        case int() if value.bit_length() > LONGEST_SHOWN:
            text = "a number that is too large"
        case str() if not value.strip():
            text = f'"{value}"'
        case _:
            text = str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _items(value: list[Any] | tuple[Any, ...] | dict[Any, Any], *, depth: int) -> str:
    shown = [plain(each, depth=depth) for each in islice(value, MOST_SHOWN)]
    if isinstance(value, dict):
        inner = (plain(each, depth=depth) for each in islice(value.values(), MOST_SHOWN))
        shown = [f"{key}: {each}" for key, each in zip(shown, inner, strict=True)]
    if len(value) > MOST_SHOWN:
        shown.append("…")
    return f"{{{', '.join(shown)}}}" if isinstance(value, dict) else f"[{', '.join(shown)}]"
