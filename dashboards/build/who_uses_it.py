# SPDX-License-Identifier: Apache-2.0
"""Who uses it: requests, tokens, waits and evictions by client."""

from typing import Final

from grafana_foundation_sdk.models import dashboard as model

from dashboards.build import palette
from dashboards.build.frame import dashboard
from dashboards.build.panels import (
    COUNT,
    PER_SECOND,
    TOKENS_PER_SECOND,
    Ask,
    Panel,
    Place,
    bars,
    lines,
    ranking,
)
from dashboards.build.promql import (
    events,
    rate,
    rounded,
    total,
    total_with_new_series,
)
from dashboards.build.tables import Column, rows

EMPTY: Final = "no clients are identified: needs the proxy with --proxy.client-by"
PROMPT: Final = "ollama_client_prompt_tokens_total"
OUTPUT: Final = "ollama_client_output_tokens_total"
WAITS: Final = "ollama_client_wait_seconds_total"
CAUSED: Final = "ollama_client_evictions_caused_total"


def who_uses_it() -> model.Dashboard:
    """Build the dashboard."""
    return dashboard(
        "ollama-clients",
        "Who uses it: how much each client asks for, how long it waits, and whom it makes wait.",
        [
            ("", [_ranked(), _pairs()]),
            ("Over time", [_tokens(), _requests()]),
            ("Who waits, and who makes others wait", [_waits(), _caused()]),
            ("What clients send", [_keep_alive(), _options()]),
        ],
        since="now-24h",
        marked=["Requests by client"],
        runbooks={
            "Evictions caused by clients": "OllamaEvictionPingPong",
            "Requests by keep_alive and client": "OllamaKeepAliveOverridden",
        },
    )


def _ranked() -> Panel:
    both = f"{total(PROMPT, 'client')} + {total(OUTPUT, 'client')}"
    return ranking(
        "Tokens by client",
        "Tokens of prompts and answers in this time range, the ten largest clients. Good: as you "
        "expect it. `other`: clients without a name, and those beyond 50.",
        [Ask(f"sort_desc(topk(10, {both}))", "{{client}}", "instant")],
        Place(8, 10),
        unit=COUNT,
        empty=EMPTY,
    )


def _pairs() -> Panel:
    by = ("client", "model")
    return rows(
        "Clients and their models",
        "What each client asked of which model in this time range. Good: each model has clients "
        "that you know.",
        {"client": "Client", "model": "Model"},
        [
            Column("Requests", f"round({total('ollama_client_requests_total', *by)}) > 0", COUNT),
            Column("Prompt tokens", f"round({total(PROMPT, *by)})", COUNT),
            Column("Output tokens", f"round({total(OUTPUT, *by)})", COUNT),
        ],
        Place(16, 10),
        hidden=(),
        sort="Requests",
        empty=EMPTY,
    )


def _tokens() -> Panel:
    return lines(
        "Generated tokens per second by client",
        "Tokens that each client was sent. Good: no client takes all of it for long.",
        [Ask(rate(OUTPUT, "client"), "{{client}}")],
        Place(12),
        unit=TOKENS_PER_SECOND,
        stacked=True,
        empty=EMPTY,
    )


def _requests() -> Panel:
    return bars(
        "Requests by client",
        "Finished requests. Good: no client floods the server.",
        [Ask(events("ollama_client_requests_total", "client"), "{{client}}")],
        Place(12),
        empty=EMPTY,
    )


def _waits() -> Panel:
    return lines(
        "Waiting by client",
        "Mean number of requests of each client that waited: for a load, or for a slot, "
        "templating and slow readers (queue). Good: near 0.",
        [Ask(rounded(rate(WAITS, "client", "kind")), "{{client}}: {{kind}}")],
        Place(12),
        unit=COUNT,
        stacked=True,
        empty=EMPTY,
    )


def _caused() -> Panel:
    return rows(
        "Evictions caused by clients",
        "Models that were evicted in this time range for one that only this client waited for. "
        "Good: empty. Often the same: give the client a model that fits beside the others.",
        {"client": "Client", "victim": "Evicted"},
        [
            Column(
                "Times",
                f"round({total_with_new_series(CAUSED, 'client', 'victim')}) > 0",
                COUNT,
                steps=((None, palette.NEUTRAL), (10, palette.WARN)),
            ),
        ],
        Place(12),
        hidden=(),
        sort="Times",
        empty="no eviction that is certain to be caused by one client",
    )


def _keep_alive() -> Panel:
    return lines(
        "Requests by keep_alive and client",
        "Requests by the keep_alive that they carry. Good: absent, so "
        "that your default applies. never pins models, zero unloads them.",
        [Ask(rate("ollama_client_keep_alive_total", "client", "class"), "{{client}}: {{class}}")],
        Place(12),
        unit=PER_SECOND,
        empty=EMPTY,
    )


def _options() -> Panel:
    return lines(
        "Options that force a reload, by client",
        "Requests with options that can make the server load the model again. Good: all clients "
        "of a model send the same, or none.",
        [
            Ask(
                rate("ollama_client_options_total", "client", **{"class": "=~num_ctx|other"}),
                "{{client}}",
            )
        ],
        Place(12),
        unit=PER_SECOND,
        empty=EMPTY,
    )
