# SPDX-License-Identifier: Apache-2.0
"""Section Clients of the catalog: who asked for what. Only with `proxy.client-by`."""

from typing import Final

from ollama_exporter.metrics.catalog.family import Family
from ollama_exporter.metrics.catalog.request_families import REQUESTS

CLIENT_FAMILIES: Final = (
    Family(
        "ollama_client_requests_total",
        "counter",
        "Finished requests that need a runner, by client (needs --proxy.client-by). `other`: "
        "unknown clients, and those beyond 50.",
        ("client", "model"),
        source=REQUESTS,
        stability="experimental",
    ),
    Family(
        "ollama_client_prompt_tokens_total",
        "counter",
        "Prompt tokens by client, cached ones included, as reported in answers.",
        ("client", "model"),
        source=REQUESTS,
        stability="experimental",
    ),
    Family(
        "ollama_client_output_tokens_total",
        "counter",
        "Generated tokens by client, as reported in answers.",
        ("client", "model"),
        source=REQUESTS,
        stability="experimental",
    ),
    Family(
        "ollama_client_wait_seconds_total",
        "counter",
        "Time in seconds that requests of a client waited. `load`: cold requests, for a runner. "
        "`queue`: the rest after load, prompt and generation, mostly waiting for a slot.",
        ("client", "kind"),
        source=REQUESTS,
        stability="experimental",
    ),
    Family(
        "ollama_client_evictions_caused_total",
        "counter",
        "Evictions of a model (victim) for one that only this client was waiting for, where that "
        "is certain.",
        ("client", "victim"),
        source=REQUESTS,
        stability="experimental",
    ),
    Family(
        "ollama_client_keep_alive_total",
        "counter",
        "Requests by client and by the kind of keep_alive they carried.",
        ("client", "class"),
        source=REQUESTS,
        stability="experimental",
    ),
    Family(
        "ollama_client_options_total",
        "counter",
        "Requests by client and by whether they carried options that can force a reload.",
        ("client", "class"),
        source=REQUESTS,
        stability="experimental",
    ),
)
