# SPDX-License-Identifier: Apache-2.0
"""All settings, each in one row: name, parser, default, help, whether a reload applies it.

Flags, variables, keys of the file, their documentation and the list of what a reload changes are
made of these rows. To add a setting, add a row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ollama_exporter.actions.defaults import defaults_section
from ollama_exporter.actions.defaults.defaults_section import Autopilot, Rule
from ollama_exporter.actions.keep_warm import keep_warm_section
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm
from ollama_exporter.config import parsers
from ollama_exporter.config.setting import rows, section, setting
from ollama_exporter.config.target import (
    DEFAULT_PORT,
    DEFAULT_TIMEOUT,
    HeaderField,
    Target,
    checked_basic_auth,
)
from ollama_exporter.metrics.labels import MOST_MODELS
from ollama_exporter.residency.poll_schedule import Cadence
from ollama_exporter.shim.observation import COLD

WEB_PORT: Final = 11487
LEVELS: Final = ("debug", "info", "warn", "error")
FORMATS: Final = ("logfmt", "json")
PROCESSES: Final = ("auto", "on", "off")
_CADENCE: Final = Cadence()


@dataclass(frozen=True, slots=True)
class Settings:
    """Validated settings. Durations in seconds."""

    ollama_url: str = setting(
        "ollama.url",
        parsers.url,
        f"http://127.0.0.1:{DEFAULT_PORT}",
        "Server to watch, in any form that OLLAMA_HOST takes. OLLAMA_HOST is used when unset.",
        metavar="URL",
    )
    ollama_ca_file: Path | None = setting(
        "ollama.ca-file",
        parsers.path,
        None,
        "CA certificates (PEM) to verify an https server with.",
        metavar="FILE",
    )
    ollama_token_file: Path | None = setting(
        "ollama.token-file",
        parsers.path,
        None,
        "File with a bearer token for the server. It is read again when it changes.",
        metavar="FILE",
    )
    ollama_basic_auth_user: str | None = setting(
        "ollama.basic-auth-user",
        parsers.user,
        None,
        "User of the server, for basic authentication.",
        metavar="NAME",
    )
    ollama_basic_auth_password_file: Path | None = setting(
        "ollama.basic-auth-password-file",
        parsers.path,
        None,
        "File with that user's password. It is read again when it changes.",
        metavar="FILE",
    )
    ollama_headers: tuple[HeaderField, ...] = setting(
        "ollama.header",
        parsers.header_fields,
        (),
        "Header field for the server. Others on this machine see the command line: "
        "for secrets, use --ollama.header-file. Repeatable.",
        metavar="NAME: VALUE",
    )
    ollama_header_files: tuple[HeaderField, ...] = setting(
        "ollama.header-file",
        parsers.header_files,
        (),
        "Header field whose value is in a file. It is read again when it changes. Repeatable.",
        metavar="NAME: FILE",
    )
    ollama_tls_cert_file: Path | None = setting(
        "ollama.tls-cert-file",
        parsers.path,
        None,
        "Client certificate chain (PEM) for an https server that asks for one.",
        metavar="FILE",
    )
    ollama_tls_key_file: Path | None = setting(
        "ollama.tls-key-file",
        parsers.path,
        None,
        "Private key (PEM) of the client certificate, unless it is in the same file.",
        metavar="FILE",
    )
    ollama_tls_server_name: str | None = setting(
        "ollama.tls-server-name",
        parsers.text,
        None,
        "Name in the server's certificate, if it is not the host of the URL.",
        metavar="NAME",
    )
    ollama_tls_insecure_skip_verify: bool = setting(
        "ollama.tls-insecure-skip-verify",
        parsers.flag,
        False,  # noqa: FBT003 - the row's default
        "Accept any certificate of the server. Whoever is in between can then read the token.",
    )
    ollama_timeout: float = setting(
        "ollama.timeout",
        parsers.duration,
        DEFAULT_TIMEOUT,
        "How long to wait for an answer of the server.",
        metavar="DURATION",
    )
    ollama_log: str | None = setting(
        "ollama.log",
        parsers.log_source,
        None,
        "Log of the server to follow: a file, the journal of its unit, or a container. "
        "Off when unset.",
        metavar="FILE|journal[:UNIT]|docker:CONTAINER",
    )
    collector_processes: str = setting(
        "collector.processes",
        parsers.choice(*PROCESSES),
        "auto",
        "Watch the server's processes. auto: if the server is on this machine's loopback.",
        metavar="|".join(PROCESSES),
    )
    collector_runner: str = setting(
        "collector.runner",
        parsers.choice(*PROCESSES),
        "auto",
        "Ask each runner on this machine for its slots: busy slots, context, tokens. auto: if "
        "processes are watched. In containers the exporter shares the network namespace too.",
        metavar="|".join(PROCESSES),
    )
    poll_interval: float = setting(
        "poll.interval",
        parsers.interval,
        _CADENCE.interval,
        "Interval between polls.",
        metavar="DURATION",
        reloadable=True,
    )
    poll_aligned: bool = setting(
        "poll.aligned",
        parsers.flag,
        _CADENCE.aligned,
        "Poll around each expiry as well. Most unload reasons depend on it.",
        reloadable=True,
    )
    expected_models: tuple[str, ...] = setting(
        "expected-model",
        parsers.texts,
        (),
        "Model that should be resident. It has series even if it was never loaded. Repeatable.",
        metavar="NAME",
    )
    listen_addresses: tuple[str, ...] = setting(
        "web.listen-address",
        parsers.web_addresses,
        (f":{WEB_PORT}",),
        "Address to serve metrics on. An empty host means all interfaces. Repeatable.",
        metavar="HOST:PORT|unix:PATH",
    )
    systemd_socket: bool = setting(
        "web.systemd-socket",
        parsers.flag,
        False,  # noqa: FBT003 - the row's default
        "Serve metrics on the sockets that systemd hands over, instead of on addresses.",
    )
    web_config_file: Path | None = setting(
        "web.config.file",
        parsers.path,
        None,
        "File with TLS, users, header fields and a rate limit for this port, in the format of "
        "Prometheus' exporter-toolkit. It is read again when it changes.",
        metavar="FILE",
    )
    telemetry_path: str = setting(
        "web.telemetry-path",
        parsers.telemetry_path,
        "/metrics",
        "Path to serve metrics under.",
        metavar="PATH",
    )
    disable_exporter_metrics: bool = setting(
        "web.disable-exporter-metrics",
        parsers.flag,
        False,  # noqa: FBT003 - the row's default
        "Leave out the process_* and python_* metrics.",
    )
    max_requests: int = setting(
        "web.max-requests",
        parsers.count(1),
        40,
        "Maximum number of simultaneous scrapes. More are answered with 503.",
        metavar="NUMBER",
        reloadable=True,
    )
    enable_lifecycle: bool = setting(
        "web.enable-lifecycle",
        parsers.flag,
        False,  # noqa: FBT003 - likewise
        "Allow reloads by POST /-/reload.",
        reloadable=True,
    )
    proxy_addresses: tuple[str, ...] = setting(
        "proxy.listen-address",
        parsers.addresses,
        (),
        "Address of the proxy. An empty host means loopback. Off when unset. Repeatable.",
        metavar="HOST:PORT",
    )
    proxy_tls_cert_file: Path | None = setting(
        "proxy.tls-cert-file",
        parsers.path,
        None,
        "Certificate chain (PEM) of the proxy. With it, the proxy serves TLS.",
        metavar="FILE",
    )
    proxy_tls_key_file: Path | None = setting(
        "proxy.tls-key-file",
        parsers.path,
        None,
        "Private key (PEM) of the proxy's certificate.",
        metavar="FILE",
    )
    proxy_token_file: Path | None = setting(
        "proxy.token-file",
        parsers.path,
        None,
        "File with a bearer token that clients must send. It is not passed on to the server.",
        metavar="FILE",
    )
    proxy_set_forwarded_for: bool = setting(
        "proxy.set-forwarded-for",
        parsers.flag,
        False,  # noqa: FBT003 - likewise
        "Set X-Forwarded-For to the client's address. Otherwise the client's own value is kept.",
    )
    proxy_access_log: bool = setting(
        "proxy.access-log",
        parsers.flag,
        False,  # noqa: FBT003 - likewise
        "Log each request at level info.",
    )
    proxy_cold_threshold: float = setting(
        "proxy.cold-threshold",
        parsers.duration,
        COLD,
        "A request that waited this long for a runner counts as a cold start.",
        metavar="DURATION",
    )
    proxy_max_connections: int = setting(
        "proxy.max-connections",
        parsers.count(1),
        1000,
        "Maximum number of client connections. More are answered with 503.",
        metavar="NUMBER",
    )
    proxy_max_head_bytes: int = setting(
        "proxy.max-head-bytes",
        parsers.count(1024),
        32768,
        "Maximum size of a request's head. Larger ones are answered with 431.",
        metavar="BYTES",
    )
    proxy_max_head_fields: int = setting(
        "proxy.max-head-fields",
        parsers.count(1),
        100,
        "Maximum number of header fields of a request. More are answered with 431.",
        metavar="NUMBER",
    )
    proxy_max_url_bytes: int = setting(
        "proxy.max-url-bytes",
        parsers.count(64),
        8192,
        "Maximum size of a request's URL. Larger ones are answered with 414.",
        metavar="BYTES",
    )
    proxy_head_timeout: float = setting(
        "proxy.head-timeout",
        parsers.duration,
        10.0,
        "Time from the first byte of a request's head to its end. Then 408.",
        metavar="DURATION",
    )
    proxy_idle_timeout: float = setting(
        "proxy.idle-timeout",
        parsers.duration,
        75.0,
        "Time between two requests, and between two reads of a request's body.",
        metavar="DURATION",
    )
    proxy_connect_timeout: float = setting(
        "proxy.connect-timeout",
        parsers.duration,
        5.0,
        "Time to connect to the server. Then 504.",
        metavar="DURATION",
    )
    proxy_silence_timeout: float = setting(
        "proxy.silence-timeout",
        parsers.duration,
        3600.0,
        "Time for which the server may send nothing, as it does while it loads. Then 504.",
        metavar="DURATION",
    )
    proxy_shutdown_timeout: float = setting(
        "proxy.shutdown-timeout",
        parsers.duration,
        10.0,
        "Time for unfinished responses when the exporter shuts down.",
        metavar="DURATION",
    )
    max_models: int = setting(
        "metrics.max-models",
        parsers.count(1),
        MOST_MODELS,
        "Maximum number of models with series of their own. The rest is `other`.",
        metavar="NUMBER",
    )
    state_file: Path | None = setting(
        "state.file",
        parsers.path,
        None,
        "File for the exporter's state, to notice unloads during a restart. Off when unset.",
        metavar="FILE",
    )
    log_level: str = setting(
        "log.level",
        parsers.log_level(*LEVELS),
        "info",
        "Lowest level to log.",
        metavar="|".join(LEVELS),
        reloadable=True,
    )
    log_format: str = setting(
        "log.format",
        parsers.choice(*FORMATS),
        "logfmt",
        "Format of log lines.",
        metavar="|".join(FORMATS),
        reloadable=True,
    )
    keep_warm: KeepWarm = section(
        keep_warm_section.KEY, keep_warm_section.keep_warm, keep_warm_section.OFF
    )
    defaults: tuple[Rule, ...] = section(defaults_section.DEFAULTS, defaults_section.defaults, ())
    autopilot: Autopilot | None = section(
        defaults_section.AUTOPILOT, defaults_section.autopilot, None
    )

    @property
    def target(self) -> Target:
        """The server to watch. Raises ConfigError for half of a basic authentication."""
        user, password_file = self.ollama_basic_auth_user, self.ollama_basic_auth_password_file
        basic_auth = None
        if user is not None or password_file is not None:
            basic_auth = checked_basic_auth(user, password_file)
        return Target(
            "ollama",
            self.ollama_url,
            self.ollama_ca_file,
            self.ollama_token_file,
            basic_auth=basic_auth,
            headers=(*self.ollama_headers, *self.ollama_header_files),
            cert_file=self.ollama_tls_cert_file,
            key_file=self.ollama_tls_key_file,
            server_name=self.ollama_tls_server_name,
            insecure_skip_verify=self.ollama_tls_insecure_skip_verify,
        )


ROWS: Final = {row.name: row for row in rows(Settings)}
TABLE: Final = tuple(row for row in ROWS.values() if not row.is_section)
SECTIONS: Final = tuple(row for row in ROWS.values() if row.is_section)
