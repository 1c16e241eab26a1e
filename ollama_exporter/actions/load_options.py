# SPDX-License-Identifier: Apache-2.0
"""The options that clients request for each model, so that a load of ours fits them. Pure.

A runner with another num_ctx would be reloaded by the first request for it.
"""

from typing import Final

from msgspec import Struct

from ollama_exporter.bounded import BoundedDict
from ollama_exporter.protocol.request_body import RequestFields

MAX_MODELS: Final = 1024
Options = dict[str, int | bool]


class RequestedOptions(Struct, frozen=True):
    """The runner options of the last request that loaded or used a model."""

    num_ctx: int | None = None  # None: the request had none, so the server chose
    others: tuple[tuple[str, int | bool], ...] = ()


class LoadOptions:
    """Remembers what clients requested of each model, and what its resident runner was given.

    The first outlives the runner: the next load fits the clients. The second ends with the runner:
    a renewal with options of an earlier runner would reload the model.
    """

    def __init__(self) -> None:
        self._requested: BoundedDict[str, RequestedOptions] = BoundedDict(MAX_MODELS)
        self._served: BoundedDict[str, tuple[float, RequestedOptions]] = BoundedDict(MAX_MODELS)
        self._listed: BoundedDict[str, int] = BoundedDict(MAX_MODELS)

    def on_request_end(self, model: str, asked: RequestFields, at: float) -> None:
        """Remember the options of a request that a runner answered."""
        options = RequestedOptions(asked.num_ctx, asked.options)
        self._served[model] = at, options
        if not asked.is_empty:  # an empty request may be a preload of ours
            self._requested[model] = options

    def on_own_load(self, model: str, options: Options, at: float) -> None:
        """Remember the options of a load of ours."""
        others = tuple((key, value) for key, value in options.items() if key != "num_ctx")
        self._served[model] = at, RequestedOptions(options.get("num_ctx"), others)

    def on_listed(self, model: str, context: int | None) -> None:
        """Remember the context of a resident model."""
        if context is not None:
            self._listed[model] = context

    def on_loaded(self, model: str, context: int | None, not_before: float) -> None:
        """Remember the context of a new runner, and forget what an earlier runner was given."""
        self.on_listed(model, context)
        self._forget(model, not_before)

    def on_unloaded(self, model: str, not_after: float) -> None:
        """Forget what the runner was given."""
        self._forget(model, not_after)

    def _forget(self, model: str, before: float) -> None:
        served = self._served.get(model)
        if served is not None and served[0] < before:
            del self._served[model]

    def for_load(self, model: str, fixed: int | None = None) -> Options:
        """Return the options for a model that is not resident. `fixed`: the operator's num_ctx."""
        requested = self._requested.get(model)
        context = fixed
        if context is None:
            context = self._listed.get(model) if requested is None else requested.num_ctx
        return _options(context, requested)

    def for_resident(self, model: str, context: int) -> Options:
        """Return the options that the runner was started with. `context`: as listed."""
        served = self._served.get(model)
        return _options(context, None if served is None else served[1])


def _options(context: int | None, requested: RequestedOptions | None) -> Options:
    options = dict(requested.others) if requested is not None else {}
    return options if context is None else {**options, "num_ctx": context}
