# SPDX-License-Identifier: Apache-2.0
"""The settings in force, put together from what `schema.py` declares.

Precedence: flag, environment (`OLLAMA_EXPORTER_` and the flag in capitals), file, default.
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import yaml

from ollama_exporter.actions.defaults.defaults_section import Autopilot, Rule
from ollama_exporter.actions.keep_warm.keep_warm_section import OFF, KeepWarm
from ollama_exporter.config import parsers
from ollama_exporter.config.schema import BY_NAME, SECTIONS, TABLE, Setting
from ollama_exporter.config.target import Target
from ollama_exporter.errors import ConfigError

FALLBACK: Final = "OLLAMA_HOST"  # Ollama's own variable says where its clients look
LARGEST_FILE: Final = 2**20
FIELDS: Final = {name: name.replace("-", "_") for name in SECTIONS}


@dataclass(frozen=True, slots=True)
class Settings:
    """Validated settings. Durations in seconds."""

    ollama_url: str = "http://127.0.0.1:11434"
    ollama_ca_file: Path | None = None
    ollama_token_file: Path | None = None
    ollama_timeout: float = 10.0
    ollama_log: str | None = None
    collector_processes: str = "auto"
    collector_runner: str = "auto"
    poll_interval: float = 15.0
    poll_aligned: bool = True
    expected_models: tuple[str, ...] = ()
    listen_addresses: tuple[str, ...] = (":11487",)
    telemetry_path: str = "/metrics"
    disable_exporter_metrics: bool = False
    max_requests: int = 40
    enable_lifecycle: bool = False
    proxy_addresses: tuple[str, ...] = ()
    proxy_tls_cert_file: Path | None = None
    proxy_tls_key_file: Path | None = None
    proxy_token_file: Path | None = None
    proxy_set_forwarded_for: bool = False
    proxy_access_log: bool = False
    proxy_cold_threshold: float = 0.5
    proxy_max_connections: int = 1000
    proxy_max_head_bytes: int = 32768
    proxy_max_head_fields: int = 100
    proxy_max_url_bytes: int = 8192
    proxy_head_timeout: float = 10.0
    proxy_idle_timeout: float = 75.0
    proxy_connect_timeout: float = 5.0
    proxy_silence_timeout: float = 3600.0
    proxy_shutdown_timeout: float = 10.0
    max_models: int = 100
    state_file: Path | None = None
    log_level: str = "info"
    log_format: str = "logfmt"
    # sections of the file
    keep_warm: KeepWarm = OFF
    defaults: tuple[Rule, ...] = ()
    autopilot: Autopilot | None = None

    @property
    def target(self) -> Target:
        """The server to watch."""
        return Target("ollama", self.ollama_url, self.ollama_ca_file, self.ollama_token_file)


def default_of(setting: Setting) -> Any:  # noqa: ANN401 - each setting has its own type
    """Return a setting's default value."""
    return next(f.default for f in fields(Settings) if f.name == setting.field)


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
    sections = {field: (name, values.pop(name)) for name, field in FIELDS.items() if name in values}
    values |= {s.name: environment[s.variable] for s in TABLE if environment.get(s.variable)}
    values |= flags
    parsed = {BY_NAME[n].field: BY_NAME[n].parse(n, value) for n, value in values.items()}
    parsed |= {field: SECTIONS[n](n, value) for field, (n, value) in sections.items()}
    if environment.get(FALLBACK):
        parsed.setdefault("ollama_url", parsers.url(FALLBACK, environment[FALLBACK]))
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
        known = [*BY_NAME, *SECTIONS]
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"accepted: {', '.join(known)}"
            raise ConfigError(f"{file}", key, f"unknown key; {hint}")
    return dict(loaded)
