# SPDX-License-Identifier: Apache-2.0
"""The options that clients request for each model, so that a load of ours fits them. Pure.

A runner with another num_ctx would be reloaded by the first request for it.
"""

from collections.abc import Callable
from typing import Final

from ollama_exporter.actions.saved_options import RequestedOptions, SavedOptions, ServedOptions
from ollama_exporter.bounded import BoundedDict
from ollama_exporter.protocol.request_body import RequestFields
from ollama_exporter.residency.events import Event, Found, Loaded, Restarted, Unloaded

MAX_MODELS: Final = 1024
Options = dict[str, int | bool]


class LoadOptions:
    """Remembers what clients requested of each model, and what its resident runner was given.

    The first outlives the runner: the next load fits the clients. The second ends with the runner:
    a renewal with options of an earlier runner would reload the model. `runner_key`: names of one
    runner have one key.
    """

    def __init__(self, runner_key: Callable[[str], str] = lambda model: model) -> None:
        self._runner_key = runner_key
        self._requested: BoundedDict[str, RequestedOptions] = BoundedDict(MAX_MODELS)
        self._served: BoundedDict[str, ServedOptions] = BoundedDict(MAX_MODELS)
        self._listed: BoundedDict[str, int] = BoundedDict(MAX_MODELS)

    def saved(self) -> SavedOptions:
        """Return what the next process must know."""
        return SavedOptions(dict(self._requested), dict(self._served), dict(self._listed))

    def restore(self, saved: SavedOptions) -> None:
        """Go on where an earlier process ended."""
        self._requested.update(saved.requested)
        self._served.update(saved.served)
        self._listed.update(saved.listed)

    def on_request_end(self, model: str, asked: RequestFields, at: float) -> bool:
        """Remember the options of a request that a runner answered; return whether they are new."""
        options, before = RequestedOptions(asked.num_ctx, asked.options), self._served.get(model)
        self._served[model] = ServedOptions(at, options)
        if not asked.is_empty:  # an empty request may be a preload of ours
            self._requested[model] = options
        return before is None or before.options != options

    def on_own_load(self, model: str, options: Options, at: float) -> None:
        """Remember the options of a load of ours."""
        others = tuple((key, value) for key, value in options.items() if key != "num_ctx")
        self._served[model] = ServedOptions(at, RequestedOptions(options.get("num_ctx"), others))

    def on_event(self, event: Event) -> None:
        """Follow the runners that come and go."""
        match event:
            case Found(model=model):
                self.on_listed(model.name, model.context)
            case Loaded(model=model):
                self.on_loaded(model.name, model.context, event.not_before)
            case Unloaded(model=model):
                self.on_unloaded(model.name, event.not_after)
            case Restarted():
                pass

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
        for name in self._same_runner(model):
            if self._served[name].at < before:
                del self._served[name]

    def _same_runner(self, model: str) -> list[str]:
        """Return the names with requests that were served by the model's runner."""
        key = self._runner_key(model)
        return [name for name in self._served if self._runner_key(name) == key]

    def for_load(self, model: str, fixed: int | None = None) -> Options:
        """Return the options for a model that is not resident. `fixed`: the operator's num_ctx."""
        requested = self._requested.get(model)
        context = fixed
        if context is None:
            context = self._listed.get(model) if requested is None else requested.num_ctx
        return _options(context, requested)

    def for_resident(self, model: str, context: int) -> Options:
        """Return the options that the runner was started with. `context`: as listed."""
        served = [self._served[name] for name in self._same_runner(model)]
        last = max(served, key=lambda each: each.at, default=None)
        return _options(context, None if last is None else last.options)


def _options(context: int | None, requested: RequestedOptions | None) -> Options:
    options = dict(requested.others) if requested is not None else {}
    return options if context is None else {**options, "num_ctx": context}
