# SPDX-License-Identifier: Apache-2.0
"""From exchanges to what the residency tracker is told of requests."""

from typing import Final

from ollama_exporter.protocol.error_text import Failure, classify
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.observation import Observation, Outcome

BROKEN: Final = frozenset({Outcome.UPSTREAM_ERROR, Outcome.TRUNCATED})
CLOUD = (":cloud", "-cloud")  # names of models that run elsewhere (internal/modelref)


def started(exchange: Exchange) -> RequestStarted | None:
    """Return that a request will need a runner; None: it will not, or its model is not known."""
    model = exchange.model
    if not exchange.route.runs or model is None or model.endswith(CLOUD):
        return None
    asked = (
        exchange.rewritten_fields or exchange.request_fields
    )  # the server knows only what reached it
    return RequestStarted(
        exchange.started_at,
        exchange.id,
        model,
        keep_alive=asked.keep_alive,
        num_ctx=asked.num_ctx,
        stop=asked.is_stop,
    )


def answered(exchange: Exchange) -> RequestAnswered:
    """Return that its runner is loaded."""
    return RequestAnswered(exchange.answered_at or exchange.started_at, exchange.id)


def ended(observation: Observation) -> RequestEnded:
    """Return that it ended, and what its error says of the runner.

    An answer that broke off without a word may be the server's own end.
    """
    error = observation.response.error
    broken = Failure.OTHER if observation.outcome in BROKEN else None
    failure = classify(error) if error else broken
    return RequestEnded(observation.ended, observation.id, failure=failure)
