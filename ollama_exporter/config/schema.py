# SPDX-License-Identifier: Apache-2.0
"""All settings, each in one row: name, parser, default, help, whether a reload applies it.

Flags, variables, keys of the file, their documentation and the list of what a reload changes are
made of these rows. To add a setting, add a row.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ollama_exporter.actions.defaults import defaults_section
from ollama_exporter.actions.defaults.defaults_section import Autopilot, Rule
from ollama_exporter.actions.keep_warm import keep_warm_section
from ollama_exporter.actions.keep_warm.keep_warm_section import KeepWarm
from ollama_exporter.config import parsers
from ollama_exporter.config.server_settings import ServerSettings
from ollama_exporter.config.setting import rows, section, setting
from ollama_exporter.fleet import target_section
from ollama_exporter.fleet.allow_list import probe_entries
from ollama_exporter.fleet.target_section import TargetSettings
from ollama_exporter.metrics import hidden_names
from ollama_exporter.metrics.labels import MOST_MODELS
from ollama_exporter.poller.poll_schedule import Cadence
from ollama_exporter.shim.observation import COLD
from ollama_exporter.shim.proxy.client_names import client_by

WEB_PORT: Final = 11487
LEVELS: Final = ("debug", "info", "warn", "error")
FORMATS: Final = ("logfmt", "json")
PROCESSES: Final = ("auto", "on", "off")
_CADENCE: Final = Cadence()


@dataclass(frozen=True, slots=True)
class Settings(ServerSettings):
    """Validated settings. Durations in seconds."""

    ollama_log: str = setting(
        "ollama.log",
        parsers.log_source,
        "auto",
        "Log of the server to follow: a file, the journal of a unit, or a container. auto: the "
        "journal of the systemd unit that the server runs in, if any.",
        metavar="auto|off|FILE|journal[:UNIT]|docker:CONTAINER",
    )
    collector_processes: str = setting(
        "collector.processes",
        parsers.choice(*PROCESSES),
        "auto",
        "Watch the server's processes. auto: if its address is loopback.",
        metavar="|".join(PROCESSES),
    )
    collector_runner: str = setting(
        "collector.runner",
        parsers.choice(*PROCESSES),
        "auto",
        "Query each runner on this machine for slots, context and tokens. auto: if processes are "
        "watched. In a container this needs Ollama's network namespace as well.",
        metavar="|".join(PROCESSES),
    )
    targets_dir: Path | None = setting(
        "targets-dir",
        parsers.path,
        None,
        "Directory of YAML and JSON files that list servers, instead of --ollama.url. Changes "
        "apply without a restart.",
        metavar="DIR",
    )
    probe_allow: tuple[str, ...] = setting(
        "probe.allow",
        probe_entries,
        (),
        "What /probe?target=http://… may reach: HOST:PORT, *.DOMAIN:PORT or NETWORK/BITS:PORT. "
        "Off when unset. Repeatable.",
        metavar="ADDRESSES",
        reloadable=True,
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
        "Also poll around each expiry. Most unload reasons depend on it.",
        reloadable=True,
    )
    expected_models: tuple[str, ...] = setting(
        "expected-model",
        parsers.texts,
        (),
        "Model that should be in memory. It has series even if it was never loaded. Repeatable.",
        metavar="NAME",
    )
    listen_addresses: tuple[str, ...] = setting(
        "web.listen-address",
        parsers.web_addresses,
        (f":{WEB_PORT}",),
        "Address to serve metrics on. Without a host: all interfaces. Repeatable.",
        metavar="HOST:PORT|unix:PATH",
    )
    systemd_socket: bool = setting(
        "web.systemd-socket",
        parsers.flag,
        False,  # noqa: FBT003 - the row's default
        "Serve metrics on sockets passed by systemd, instead of on addresses.",
    )
    web_config_file: Path | None = setting(
        "web.config.file",
        parsers.path,
        None,
        "File with TLS, users, headers and a rate limit for this port, in the format of "
        "Prometheus' exporter-toolkit. Changes apply without a restart.",
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
        "Maximum number of simultaneous scrapes. Further ones get 503.",
        metavar="NUMBER",
        reloadable=True,
    )
    enable_lifecycle: bool = setting(
        "web.enable-lifecycle",
        parsers.flag,
        False,  # noqa: FBT003 - likewise
        "Enable POST /-/reload.",
        reloadable=True,
    )
    proxy_addresses: tuple[str, ...] = setting(
        "proxy.listen-address",
        parsers.addresses,
        (),
        "Address of the proxy. Without a host: loopback. Off when unset. Repeatable.",
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
    proxy_web_config_file: Path | None = setting(
        "proxy.web-config-file",
        parsers.path,
        None,
        "File with TLS, users, headers and a rate limit for the proxy, in the format of "
        "--web.config.file. It may be the same file.",
        metavar="FILE",
    )
    proxy_token_file: Path | None = setting(
        "proxy.token-file",
        parsers.path,
        None,
        "File with a bearer token that clients must send. It is not passed on to the server.",
        metavar="FILE",
    )
    proxy_client_by: str | None = setting(
        "proxy.client-by",
        client_by,
        None,
        "How to identify clients, to count requests by client. Off when unset.",
        metavar="token|user-agent|network|header:NAME",
    )
    proxy_client_tokens_file: Path | None = setting(
        "proxy.client-tokens-file",
        parsers.path,
        None,
        "File with a line `name: token` per client, for --proxy.client-by=token. Each client must "
        "send its bearer token. Changes apply without a restart.",
        metavar="FILE",
    )
    proxy_client_networks: tuple[str, ...] = setting(
        "proxy.client-networks",
        parsers.texts,
        (),
        "Name of a network of clients, with --proxy.client-by=network. The smallest match wins. "
        "Repeatable.",
        metavar="NETWORK/BITS=NAME",
    )
    proxy_set_forwarded_for: bool = setting(
        "proxy.set-forwarded-for",
        parsers.flag,
        False,  # noqa: FBT003 - likewise
        "Set X-Forwarded-For to the client's address, instead of passing on what the client sent.",
    )
    proxy_request_usage: bool = setting(
        "proxy.request-usage",
        parsers.flag,
        False,  # noqa: FBT003 - likewise
        "Request token usage for streams of /v1/chat/completions and /v1/completions whose client "
        "does not. The client gets the same answer as without it.",
    )
    proxy_access_log: bool = setting(
        "proxy.access-log",
        parsers.flag,
        False,  # noqa: FBT003 - likewise
        "Log each request (level info).",
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
        "Maximum number of client connections. Further ones get 503.",
        metavar="NUMBER",
    )
    proxy_max_head_bytes: int = setting(
        "proxy.max-head-bytes",
        parsers.count(1024),
        32768,
        "Maximum size of request line and headers. Larger ones get 431.",
        metavar="BYTES",
    )
    proxy_max_head_fields: int = setting(
        "proxy.max-head-fields",
        parsers.count(1),
        100,
        "Maximum number of headers of a request. Requests with more get 431.",
        metavar="NUMBER",
    )
    proxy_max_url_bytes: int = setting(
        "proxy.max-url-bytes",
        parsers.count(64),
        8192,
        "Maximum size of a request's URL. Larger ones get 414.",
        metavar="BYTES",
    )
    proxy_head_timeout: float = setting(
        "proxy.head-timeout",
        parsers.duration,
        10.0,
        "Time to receive request line and headers, then 408.",
        metavar="DURATION",
    )
    proxy_idle_timeout: float = setting(
        "proxy.idle-timeout",
        parsers.duration,
        75.0,
        "Time without a request on an open connection, or without data of a request's body.",
        metavar="DURATION",
    )
    proxy_connect_timeout: float = setting(
        "proxy.connect-timeout",
        parsers.duration,
        5.0,
        "Time to connect to the server, then 504.",
        metavar="DURATION",
    )
    proxy_silence_timeout: float = setting(
        "proxy.silence-timeout",
        parsers.duration,
        3600.0,
        "Time without data from the server, as during a load, then 504.",
        metavar="DURATION",
    )
    proxy_shutdown_timeout: float = setting(
        "proxy.shutdown-timeout",
        parsers.duration,
        10.0,
        "Time that running responses get to finish when the exporter shuts down.",
        metavar="DURATION",
    )
    max_models: int = setting(
        "metrics.max-models",
        parsers.count(1),
        MOST_MODELS,
        'Maximum number of models with their own series. The rest share model="other".',
        metavar="NUMBER",
    )
    hide_models: str = setting(
        hidden_names.SETTING,
        parsers.choice(hidden_names.OFF, hidden_names.HASH),
        hidden_names.OFF,
        "Show a hash in place of each model's name, in metrics and on the page.",
        metavar=f"{hidden_names.OFF}|{hidden_names.HASH}",
    )
    hide_models_key_file: Path | None = setting(
        hidden_names.KEY_FILE,
        parsers.path,
        None,
        "File with a secret key for these hashes. Without one, a guessed name can be verified.",
        metavar="FILE",
    )
    state_file: Path | None = setting(
        "state.file",
        parsers.path,
        None,
        "File that carries history, idle gaps and open unloads over a restart. Off when unset.",
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
    targets: tuple[TargetSettings, ...] = section(target_section.KEY, target_section.targets, ())
    keep_warm: KeepWarm = section(
        keep_warm_section.KEY, keep_warm_section.keep_warm, keep_warm_section.OFF
    )
    defaults: tuple[Rule, ...] = section(defaults_section.DEFAULTS, defaults_section.defaults, ())
    autopilot: Autopilot | None = section(
        defaults_section.AUTOPILOT, defaults_section.autopilot, None
    )

    @property
    def has_fleet(self) -> bool:
        """Whether targets are named one by one, instead of the one server of `ollama.url`."""
        return bool(self.targets) or self.targets_dir is not None

    def of_target(self, each: TargetSettings) -> "Settings":
        """Return the settings of one target of a fleet."""
        return replace(
            self,
            ollama_url=each.target.url,
            targets=(),
            targets_dir=None,
            collector_processes="off",
            collector_runner="off",
            poll_interval=each.poll_interval or self.poll_interval,
            expected_models=(
                self.expected_models if each.expected_models is None else each.expected_models
            ),
            keep_warm=self.keep_warm if each.keep_warm is None else each.keep_warm,
        )


ROWS: Final = {row.name: row for row in rows(Settings)}
TABLE: Final = tuple(row for row in ROWS.values() if not row.is_section)
SECTIONS: Final = tuple(row for row in ROWS.values() if row.is_section)
