# SPDX-License-Identifier: Apache-2.0
"""Section Exporter: the exporter about itself, and the runtime of Python."""

import logging
import math
import platform
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric

from ollama_exporter.metrics.catalog.all_families import FAMILIES
from ollama_exporter.metrics.catalog.request_families import REQUESTS
from ollama_exporter.metrics.fast_instruments import FastCounter, FastGauge, FastHistogram
from ollama_exporter.metrics.from_catalog import collected, constant, counter
from ollama_exporter.version import REVISION, __version__

LEVELS: Final = ("debug", "info", "warning", "error")


class LogCounter(logging.Handler):
    """Counts log lines by level."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = counter("ollama_exporter_log_messages_total")
        for level in LEVELS:
            self.lines.labels(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Count one line; higher levels count as error."""
        level = record.levelname.lower()
        self.lines.labels(level if level in LEVELS else "error").inc()


class ExporterCollector:
    """All families of the section, except those about the scrape itself."""

    name = "exporter"

    def __init__(
        self,
        *,
        log_lines: LogCounter,
        targets: Callable[[], int] = lambda: 1,
        files_rejected: Callable[[], int] = lambda: 0,
    ) -> None:
        self._targets, self._files_rejected = targets, files_rejected
        self._log_lines = log_lines
        self.probes_refused = FastCounter("ollama_exporter_probes_refused_total")
        self.probes_refused.create()
        self.poll_delay = FastHistogram("ollama_exporter_poll_delay_seconds")
        # The library's own, which have locks: threads count, too.
        self.errors = counter("ollama_exporter_recorder_errors_total")
        self._file_errors = counter("ollama_exporter_credential_read_errors_total")
        self._logins_refused = FastCounter("ollama_exporter_logins_refused_total")
        self._requests_limited = FastCounter("ollama_exporter_requests_limited_total")
        self._certificate = FastGauge("ollama_exporter_certificate_expiry_timestamp_seconds")
        self._expiries: dict[str, float] = {}  # by the setting that names the certificate
        self._logins_refused.create()
        self._requests_limited.create()
        self._reload_ok = FastGauge("ollama_exporter_config_last_reload_successful")
        self._reload_at = FastGauge("ollama_exporter_config_last_reload_success_timestamp_seconds")
        self._reload_ok.set(value=0.0)
        self._reload_at.set(value=0.0)

    def reloaded(self, *, at: float) -> None:
        """Note a successful reload; `at`: wall-clock Unix seconds."""
        self._reload_ok.set(value=1.0)
        self._reload_at.set(value=at)

    def reload_failed(self) -> None:
        """Note a failed reload."""
        self._reload_ok.set(value=0.0)

    def file_failed(self, setting: str) -> None:
        """Count a failed read of the file that a setting names."""
        self._file_errors.labels(setting).inc()

    def login_refused(self) -> None:
        """Count a login with an unknown user or a wrong password."""
        self._logins_refused.add()

    def request_limited(self) -> None:
        """Count a request above the rate limit, or a login while too many wait."""
        self._requests_limited.add()

    def certificate_expires(self, setting: str, at: float | None) -> None:
        """Show when the first certificate of our ports expires.

        `at`: when that of a setting does, in Unix seconds; None if unknown.
        """
        self._expiries[setting] = math.nan if at is None else at
        known = [each for each in self._expiries.values() if not math.isnan(each)]
        self._certificate.set(value=min(known, default=math.nan))

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        labels = (__version__, REVISION, platform.python_version())
        yield constant("ollama_exporter_build_info", [(labels, 1.0)])
        yield constant("ollama_exporter_targets", [((), float(self._targets()))])
        rejected = float(self._files_rejected())
        yield constant("ollama_exporter_target_files_rejected", [((), rejected)])
        yield self.probes_refused.collect()
        yield self.poll_delay.collect()
        yield self._logins_refused.collect()
        yield self._requests_limited.collect()
        yield self._certificate.collect()
        yield from collected(self.errors, self._file_errors, self._log_lines.lines)
        yield self._reload_ok.collect()
        yield self._reload_at.collect()


class UnfilledCollector:
    """The families that only requests fill, without samples: there is no proxy."""

    name = "unfilled"

    def __init__(self) -> None:
        self._families = [
            constant(family.name, ()) for family in FAMILIES.values() if family.source == REQUESTS
        ]

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        return iter(self._families)


class RuntimeCollector:
    """The client library's families of process, interpreter and garbage collector."""

    name = "runtime"

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the library's families."""
        return iter(self._registry.collect())
