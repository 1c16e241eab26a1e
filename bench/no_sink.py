# SPDX-License-Identifier: Apache-2.0
"""A sink that records nothing: the floor under what recording costs."""

from ollama_exporter.protocol.response_fields import ResponseFields
from ollama_exporter.shim.exchange import Exchange
from ollama_exporter.shim.observation import Outcome, Phase


class NoSink:
    """A sink that records nothing."""

    def on_request_start(self, exchange: Exchange) -> None:
        """Ignore it."""

    def on_request_read(self, exchange: Exchange) -> None:
        """Ignore it."""

    def on_response_start(self, exchange: Exchange) -> None:
        """Ignore it."""

    def is_waiting(self, exchange: Exchange) -> bool:  # noqa: ARG002 - the protocol's
        """Return False."""
        return False

    def on_request_end(
        self, exchange: Exchange, response: ResponseFields, outcome: Outcome, phase: Phase | None
    ) -> None:
        """Ignore it."""

    def failed(self, message: str) -> None:
        """Ignore it."""
