# SPDX-License-Identifier: Apache-2.0
"""Section Server: the server as of the last poll."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from ollama_exporter.errors import FailureReason
from ollama_exporter.metrics.catalog_metric import LabelledValue
from ollama_exporter.metrics.from_catalog import constant
from ollama_exporter.metrics.labels import ModelLabels
from ollama_exporter.poller.published import Published
from ollama_exporter.protocol.malformed_entries import MalformedEntries


class ServerCollector:
    """All families of the section except the restarts, which are events."""

    name = "server"

    def __init__(self, labels: ModelLabels, malformed: MalformedEntries) -> None:
        self._labels, self._malformed = labels, malformed

    def collect_published(self, published: Published) -> Iterator[Metric]:
        """Yield the families."""
        server = published.server
        yield constant("ollama_up", [((), float(server.up))])
        yield constant("ollama_address_shared", [((), float(published.view.shared))])
        version = [((server.version,), 1.0)] if server.version is not None else []
        yield constant("ollama_version_info", version)
        yield constant("ollama_last_poll_success_timestamp_seconds", _known(server.last_success))
        yield constant("ollama_poll_duration_seconds", _known(server.last_duration))
        yield constant("ollama_polls_total", [((), float(server.polls))])
        yield constant(
            "ollama_poll_failures_total",
            [((reason.value,), float(server.failures.get(reason, 0))) for reason in FailureReason],
        )
        yield constant(
            "ollama_malformed_entries_total",
            [((path,), float(count)) for path, count in self._malformed.counts.items()],
        )
        installed = server.installed
        yield constant(
            "ollama_models_installed", _known(None if installed is None else len(installed))
        )
        sizes: dict[str, float] = {}
        for name, size in installed or ():
            label = self._labels.label(name)
            sizes[label] = sizes.get(label, 0.0) + size
        yield constant("ollama_model_disk_bytes", [((name,), n) for name, n in sizes.items()])


def _known(value: float | None) -> list[LabelledValue]:
    return [] if value is None else [((), float(value))]
