# SPDX-License-Identifier: Apache-2.0
"""Turns exchanges into facts for the residency tracker."""

from typing import Final

from ollama_exporter.protocol.error_text import Failure, classify
from ollama_exporter.residency.facts import RequestAnswered, RequestEnded, RequestStarted
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.observation import Observation, Outcome

BROKEN: Final = frozenset({Outcome.UPSTREAM_ERROR, Outcome.TRUNCATED})


def request_started(exchange: Exchange) -> RequestStarted | None:
    """Return the fact that a request needs a runner, or None if it needs none on this server."""
    model = exchange.model
    if not exchange.route.runs or model is None or exchange.is_remote:
        return None
    fields = exchange.rewritten_fields or exchange.request_fields  # what the server was asked
    return RequestStarted(
        exchange.started_at,
        exchange.id,
        model,
        keep_alive=fields.keep_alive,
        num_ctx=fields.num_ctx,
        stop=fields.is_stop,
    )


def request_answered(exchange: Exchange) -> RequestAnswered:
    """Return the fact that the runner of a request is loaded."""
    return RequestAnswered(exchange.answered_at or exchange.started_at, exchange.id)


def request_ended(observation: Observation) -> RequestEnded:
    """Return the fact that a request ended, and what its error says about the runner.

    A broken answer without an error text is OTHER: the server itself may have ended.
    """
    error = observation.response.error
    broken = Failure.OTHER if observation.outcome in BROKEN else None
    failure = classify(error) if error else broken
    return RequestEnded(observation.ended, observation.id, failure=failure)
