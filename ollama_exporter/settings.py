# SPDX-License-Identifier: Apache-2.0
"""All settings, declared once: flags, variables, file keys, validation and documentation.

Precedence: flag, environment (`OLLAMA_EXPORTER_` and the flag in capitals), file, default.
"""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import yaml

from ollama_exporter import accept
from ollama_exporter.errors import ConfigError
from ollama_exporter.target import Target

PREFIX: Final = "OLLAMA_EXPORTER_"
FALLBACK: Final = "OLLAMA_HOST"  # Ollama's own variable says where its clients look
LARGEST_FILE: Final = 2**20
LEVELS: Final = ("debug", "info", "warn", "error")
FORMATS: Final = ("logfmt", "json")


@dataclass(frozen=True, slots=True)
class Settings:
    """Validated settings. Durations in seconds."""

    ollama_url: str = "http://127.0.0.1:11434"
    ollama_ca_file: Path | None = None
    ollama_token_file: Path | None = None
    ollama_timeout: float = 10.0
    poll_interval: float = 15.0
    poll_aligned: bool = True
    expected_models: tuple[str, ...] = ()
    listen_addresses: tuple[str, ...] = (":11487",)
    telemetry_path: str = "/metrics"
    disable_exporter_metrics: bool = False
    max_requests: int = 40
    enable_lifecycle: bool = False
    max_models: int = 100
    state_file: Path | None = None
    log_level: str = "info"
    log_format: str = "logfmt"

    @property
    def target(self) -> Target:
        """The server to watch."""
        return Target("ollama", self.ollama_url, self.ollama_ca_file, self.ollama_token_file)


# -- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: `name` is its file key, and its flag with two dashes before."""

    name: str
    field: str
    parse: Callable[[str, object], Any]
    help: str
    metavar: str = ""
    repeatable: bool = False
    negatable: bool = False

    @property
    def is_switch(self) -> bool:
        """A flag without a value."""
        return self.parse is accept.flag

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + re.sub(r"[.-]", "_", self.name).upper()

    @property
    def default(self) -> Any:  # noqa: ANN401 - each setting has its own type
        """Its default value."""
        return next(f.default for f in fields(Settings) if f.name == self.field)


TABLE: Final = (
    Setting(
        "ollama.url",
        "ollama_url",
        accept.url,
        "Server to watch, in any form that OLLAMA_HOST takes; OLLAMA_HOST is used when unset.",
        "URL",
    ),
    Setting(
        "ollama.ca-file", "ollama_ca_file", accept.path, "Authorities of an https server.", "FILE"
    ),
    Setting(
        "ollama.token-file",
        "ollama_token_file",
        accept.path,
        "File with a bearer token for the server; read again for each request.",
        "FILE",
    ),
    Setting(
        "ollama.timeout",
        "ollama_timeout",
        accept.duration,
        "Longest time for one answer.",
        "DURATION",
    ),
    Setting(
        "poll.interval", "poll_interval", accept.interval, "Base interval of polls.", "DURATION"
    ),
    Setting(
        "poll.aligned",
        "poll_aligned",
        accept.flag,
        "Poll around each known expiry as well: most reasons rest on it.",
        negatable=True,
    ),
    Setting(
        "expected-model",
        "expected_models",
        accept.texts,
        "Model that should be resident: has series even when it never was. Repeatable.",
        "NAME",
        repeatable=True,
    ),
    Setting(
        "web.listen-address",
        "listen_addresses",
        accept.addresses,
        "Where to serve; an empty host means all interfaces. Repeatable.",
        "HOST:PORT",
        repeatable=True,
    ),
    Setting(
        "web.telemetry-path", "telemetry_path", accept.telemetry_path, "Path of metrics.", "PATH"
    ),
    Setting(
        "web.disable-exporter-metrics",
        "disable_exporter_metrics",
        accept.flag,
        "Leave out process_*, python_* metrics.",
    ),
    Setting(
        "web.max-requests",
        "max_requests",
        accept.count(1),
        "Scrapes at the same time; more are answered with 503.",
        "NUMBER",
    ),
    Setting(
        "web.enable-lifecycle", "enable_lifecycle", accept.flag, "Allow POST /-/reload over HTTP."
    ),
    Setting(
        "metrics.max-models",
        "max_models",
        accept.count(1),
        "Models that have series of their own; the rest is `other`.",
        "NUMBER",
    ),
    Setting(
        "state.file",
        "state_file",
        accept.path,
        "Keep what is resident here, so that unloads during a restart are noticed. Off when unset.",
        "FILE",
    ),
    Setting(
        "log.level", "log_level", accept.choice(*LEVELS), "Least severe level.", "|".join(LEVELS)
    ),
    Setting(
        "log.format", "log_format", accept.choice(*FORMATS), "Form of a line.", "|".join(FORMATS)
    ),
)
BY_NAME: Final = {setting.name: setting for setting in TABLE}


# -- putting them together -------------------------------------------------------------------------


def load(
    flags: Mapping[str, object],
    *,
    environment: Mapping[str, str] = os.environ,
    file: Path | None = None,
) -> Settings:
    """Put the settings together. `flags`: by name of the setting, only those given.

    Raises ConfigError.
    """
    values: dict[str, object] = {} if file is None else read_file(file)
    values |= {s.name: environment[s.variable] for s in TABLE if environment.get(s.variable)}
    values |= flags
    parsed = {BY_NAME[n].field: BY_NAME[n].parse(n, value) for n, value in values.items()}
    if environment.get(FALLBACK):
        parsed.setdefault("ollama_url", accept.url(FALLBACK, environment[FALLBACK]))
    return Settings(**parsed)


def read_file(file: Path) -> dict[str, object]:
    """Read a configuration file: a YAML mapping of the settings' names. Raises ConfigError."""
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
        loaded = yaml.safe_load(content) if len(content) <= LARGEST_FILE else content
    except OSError as err:
        accepted = f"a readable YAML file ({err.strerror})"
        raise ConfigError("config.file", str(file), accepted) from err
    except (yaml.YAMLError, ValueError, RecursionError) as err:  # ValueError: 2020-13-99
        problem = str(err).replace("\n", " ")
        raise ConfigError("config.file", str(file), f"a YAML file ({problem})") from err
    if loaded is None:  # nothing but comments
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError("config.file", str(file), "a YAML mapping of settings, at most 1 MiB")
    for key in loaded:
        if key not in BY_NAME:
            near = difflib.get_close_matches(str(key), BY_NAME, n=1)
            hint = f"did you mean {near[0]}?" if near else f"accepted: {', '.join(BY_NAME)}"
            raise ConfigError(f"{file}", key, f"unknown key; {hint}")
    return dict(loaded)
