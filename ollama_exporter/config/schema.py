# SPDX-License-Identifier: Apache-2.0
"""All settings, declared once: name, help and what each accepts.

`settings.py` puts their values together; flags, variables, file keys and docs are made of this.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ollama_exporter.actions.defaults import defaults_section
from ollama_exporter.actions.keep_warm import keep_warm_section
from ollama_exporter.config import parsers

PREFIX: Final = "OLLAMA_EXPORTER_"
LEVELS: Final = ("debug", "info", "warn", "error")
FORMATS: Final = ("logfmt", "json")
PROCESSES: Final = ("auto", "on", "off")


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
        return self.parse is parsers.flag

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + re.sub(r"[.-]", "_", self.name).upper()


TABLE: Final = (
    Setting(
        "ollama.url",
        "ollama_url",
        parsers.url,
        "Server to watch, in any form that OLLAMA_HOST takes; OLLAMA_HOST is used when unset.",
        "URL",
    ),
    Setting(
        "ollama.ca-file", "ollama_ca_file", parsers.path, "Authorities of an https server.", "FILE"
    ),
    Setting(
        "ollama.token-file",
        "ollama_token_file",
        parsers.path,
        "File with a bearer token for the server; read again for each request.",
        "FILE",
    ),
    Setting(
        "ollama.timeout",
        "ollama_timeout",
        parsers.duration,
        "Longest time for one answer.",
        "DURATION",
    ),
    Setting(
        "ollama.log",
        "ollama_log",
        parsers.log_source,
        "Follow the server's log: a file, or the journal of its unit (ollama). Off when unset.",
        "FILE|journal[:UNIT]",
    ),
    Setting(
        "collector.processes",
        "collector_processes",
        parsers.choice(*PROCESSES),
        "Watch the server's processes; auto: when it is on this machine's loopback.",
        "|".join(PROCESSES),
    ),
    Setting(
        "collector.runner",
        "collector_runner",
        parsers.choice(*PROCESSES),
        "Ask each runner on this machine for its slots: busy slots, context, tokens. auto: if "
        "processes are watched. In containers the exporter shares the network namespace too.",
        "|".join(PROCESSES),
    ),
    Setting(
        "poll.interval", "poll_interval", parsers.interval, "Base interval of polls.", "DURATION"
    ),
    Setting(
        "poll.aligned",
        "poll_aligned",
        parsers.flag,
        "Poll around each known expiry as well: most reasons rest on it.",
        negatable=True,
    ),
    Setting(
        "expected-model",
        "expected_models",
        parsers.texts,
        "Model that should be resident: has series even when it never was. Repeatable.",
        "NAME",
        repeatable=True,
    ),
    Setting(
        "web.listen-address",
        "listen_addresses",
        parsers.addresses,
        "Where to serve; an empty host means all interfaces. Repeatable.",
        "HOST:PORT",
        repeatable=True,
    ),
    Setting(
        "web.telemetry-path", "telemetry_path", parsers.telemetry_path, "Path of metrics.", "PATH"
    ),
    Setting(
        "web.disable-exporter-metrics",
        "disable_exporter_metrics",
        parsers.flag,
        "Leave out process_*, python_* metrics.",
    ),
    Setting(
        "web.max-requests",
        "max_requests",
        parsers.count(1),
        "Scrapes at the same time; more are answered with 503.",
        "NUMBER",
    ),
    Setting(
        "web.enable-lifecycle", "enable_lifecycle", parsers.flag, "Allow POST /-/reload over HTTP."
    ),
    Setting(
        "proxy.listen-address",
        "proxy_addresses",
        parsers.addresses,
        "Where clients find the proxy; an empty host means loopback. Off when unset. Repeatable.",
        "HOST:PORT",
        repeatable=True,
    ),
    Setting(
        "proxy.tls-cert-file",
        "proxy_tls_cert_file",
        parsers.path,
        "Certificate chain (PEM) that the proxy serves TLS with.",
        "FILE",
    ),
    Setting(
        "proxy.tls-key-file", "proxy_tls_key_file", parsers.path, "Its private key (PEM).", "FILE"
    ),
    Setting(
        "proxy.token-file",
        "proxy_token_file",
        parsers.path,
        "File with a bearer token that clients must show; it is not passed on.",
        "FILE",
    ),
    Setting(
        "proxy.set-forwarded-for",
        "proxy_set_forwarded_for",
        parsers.flag,
        "Set X-Forwarded-For to the client's address; otherwise the client's own is left.",
    ),
    Setting(
        "proxy.access-log",
        "proxy_access_log",
        parsers.flag,
        "Log a line for each request at level info.",
    ),
    Setting(
        "proxy.cold-threshold",
        "proxy_cold_threshold",
        parsers.duration,
        "A request that waited so long for a runner was a cold start.",
        "DURATION",
    ),
    Setting(
        "proxy.max-connections",
        "proxy_max_connections",
        parsers.count(1),
        "Clients' open connections; more are answered with 503.",
        "NUMBER",
    ),
    Setting(
        "proxy.max-head-bytes",
        "proxy_max_head_bytes",
        parsers.count(1024),
        "Longest head of a request; 431 beyond.",
        "BYTES",
    ),
    Setting(
        "proxy.max-head-fields",
        "proxy_max_head_fields",
        parsers.count(1),
        "Most fields of a head; 431 beyond.",
        "NUMBER",
    ),
    Setting(
        "proxy.max-url-bytes",
        "proxy_max_url_bytes",
        parsers.count(64),
        "Longest URL of a request; 414 beyond.",
        "BYTES",
    ),
    Setting(
        "proxy.head-timeout",
        "proxy_head_timeout",
        parsers.duration,
        "Longest time from the first byte of a head to its end; 408 beyond.",
        "DURATION",
    ),
    Setting(
        "proxy.idle-timeout",
        "proxy_idle_timeout",
        parsers.duration,
        "Longest time between two requests, or two reads of a request's body.",
        "DURATION",
    ),
    Setting(
        "proxy.connect-timeout",
        "proxy_connect_timeout",
        parsers.duration,
        "Longest time for a connection to the server; 504 beyond.",
        "DURATION",
    ),
    Setting(
        "proxy.silence-timeout",
        "proxy_silence_timeout",
        parsers.duration,
        "Longest silence of the server; a load or a queue is one. 504 beyond.",
        "DURATION",
    ),
    Setting(
        "proxy.shutdown-timeout",
        "proxy_shutdown_timeout",
        parsers.duration,
        "Time that answers have to end in when the exporter ends.",
        "DURATION",
    ),
    Setting(
        "metrics.max-models",
        "max_models",
        parsers.count(1),
        "Models that have series of their own; the rest is `other`.",
        "NUMBER",
    ),
    Setting(
        "state.file",
        "state_file",
        parsers.path,
        "Keep what is resident here, so that unloads during a restart are noticed. Off when unset.",
        "FILE",
    ),
    Setting(
        "log.level", "log_level", parsers.choice(*LEVELS), "Least severe level.", "|".join(LEVELS)
    ),
    Setting(
        "log.format", "log_format", parsers.choice(*FORMATS), "Form of a line.", "|".join(FORMATS)
    ),
)
BY_NAME: Final = {setting.name: setting for setting in TABLE}
# Keys of the file that are no flags: they have a structure of their own.
SECTIONS: Final[dict[str, Callable[[str, object], Any]]] = {
    keep_warm_section.KEY: keep_warm_section.keep_warm,
    defaults_section.DEFAULTS: defaults_section.defaults,
    defaults_section.AUTOPILOT: defaults_section.autopilot,
}
