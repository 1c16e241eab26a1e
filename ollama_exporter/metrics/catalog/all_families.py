# SPDX-License-Identifier: Apache-2.0
"""Every metric family by section, for the collectors, docs/metrics.md and the tests."""

from typing import Final

from ollama_exporter.metrics.catalog.client_families import CLIENT_FAMILIES
from ollama_exporter.metrics.catalog.exporter_families import EXPORTER_FAMILIES
from ollama_exporter.metrics.catalog.family import Family
from ollama_exporter.metrics.catalog.load_unload_families import LOAD_UNLOAD_FAMILIES
from ollama_exporter.metrics.catalog.machine_families import MACHINE_FAMILIES
from ollama_exporter.metrics.catalog.policy_families import POLICY_FAMILIES
from ollama_exporter.metrics.catalog.request_families import REQUEST_FAMILIES
from ollama_exporter.metrics.catalog.residency_families import RESIDENCY_FAMILIES
from ollama_exporter.metrics.catalog.runner_families import RUNNER_FAMILIES
from ollama_exporter.metrics.catalog.server_families import SERVER_FAMILIES

SECTIONS: Final[dict[str, tuple[Family, ...]]] = {
    "Server": SERVER_FAMILIES,
    "Residency": RESIDENCY_FAMILIES,
    "Lifecycle": LOAD_UNLOAD_FAMILIES,
    "Policy": POLICY_FAMILIES,
    "This machine": MACHINE_FAMILIES,
    "Runners": RUNNER_FAMILIES,
    "Requests": REQUEST_FAMILIES,
    "Clients": CLIENT_FAMILIES,
    "Exporter": EXPORTER_FAMILIES,
}
FAMILIES: Final[dict[str, Family]] = {
    family.name: family for families in SECTIONS.values() for family in families
}
