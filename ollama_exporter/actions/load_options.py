# SPDX-License-Identifier: Apache-2.0
"""Which options clients ask of each model, so that what we load is what they can use. Pure.

A runner of another num_ctx would be loaded again by the first request for it.
"""

from dataclasses import dataclass
from typing import Final, TypeVar

from ollama_exporter.protocol.request_body import RequestFields

MOST_MODELS: Final = 1024
Options = dict[str, int | bool]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the last request that made or used a runner asked of it."""

    num_ctx: int | None = None  # None: it named none, so the server's automatic one
    others: tuple[tuple[str, int | bool], ...] = ()


class LoadOptions:
    """Remembers the last requests, and the last incarnations where none was seen."""

    def __init__(self) -> None:
        self._asked: dict[str, Wanted] = {}
        self._listed: dict[str, int] = {}

    def answered(self, model: str, asked: RequestFields) -> None:
        """Take a request that a runner served."""
        if not asked.is_empty:  # a preload of ours says nothing of what clients want
            _remember(self._asked, model, Wanted(asked.num_ctx, asked.options))

    def listed(self, model: str, context: int | None) -> None:
        """Take the context of an incarnation."""
        if context is not None:
            _remember(self._listed, model, context)

    def for_load(self, model: str, fixed: int | None = None) -> Options:
        """Return the options for a model that is not resident; `fixed`: by the operator."""
        wanted = self._asked.get(model)
        context = fixed
        if context is None:
            context = self._listed.get(model) if wanted is None else wanted.num_ctx
        return _options(context, wanted)

    def for_resident(self, model: str, context: int) -> Options:
        """Return the options that the runner has already; `context`: as it is listed."""
        return _options(context, self._asked.get(model))


def _options(context: int | None, wanted: Wanted | None) -> Options:
    options = dict(wanted.others) if wanted is not None else {}
    return options if context is None else {**options, "num_ctx": context}


def _remember(known: dict[str, T], model: str, value: T) -> None:
    known.pop(model, None)
    known[model] = value
    if len(known) > MOST_MODELS:
        del known[next(iter(known))]
