# SPDX-License-Identifier: Apache-2.0
"""The options that clients request for each model, so that a load of ours fits them. Pure.

A runner with another num_ctx would be reloaded by the first request for it.
"""

from dataclasses import dataclass
from typing import Final

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.protocol.request_body import RequestFields

MAX_MODELS: Final = 1024
Options = dict[str, int | bool]


@dataclass(frozen=True, slots=True)
class RequestedOptions:
    """The runner options of the last request that loaded or used a model."""

    num_ctx: int | None = None  # None: the request had none, so the server chose
    others: tuple[tuple[str, int | bool], ...] = ()


class LoadOptions:
    """Remembers the last request for each model, and its last listed context."""

    def __init__(self) -> None:
        self._requested: BoundedDict[str, RequestedOptions] = BoundedDict(MAX_MODELS)
        self._listed: BoundedDict[str, int] = BoundedDict(MAX_MODELS)

    def on_request_end(self, model: str, asked: RequestFields) -> None:
        """Remember the options of a request that a runner answered."""
        if not asked.is_empty:  # an empty request may be a preload of ours
            self._requested[model] = RequestedOptions(asked.num_ctx, asked.options)

    def on_listed(self, model: str, context: int | None) -> None:
        """Remember the context of a resident model."""
        if context is not None:
            self._listed[model] = context

    def for_load(self, model: str, fixed: int | None = None) -> Options:
        """Return the options for a model that is not resident. `fixed`: the operator's num_ctx."""
        requested = self._requested.get(model)
        context = fixed
        if context is None:
            context = self._listed.get(model) if requested is None else requested.num_ctx
        return _options(context, requested)

    def for_resident(self, model: str, context: int) -> Options:
        """Return the options that the runner was started with. `context`: as listed."""
        return _options(context, self._requested.get(model))


def _options(context: int | None, requested: RequestedOptions | None) -> Options:
    options = dict(requested.others) if requested is not None else {}
    return options if context is None else {**options, "num_ctx": context}
