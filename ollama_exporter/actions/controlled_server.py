# SPDX-License-Identifier: Apache-2.0
"""The server that the exporter acts on, and what the actions share."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from msgspec import Struct, field

from ollama_exporter.actions import renew
from ollama_exporter.actions.load_options import LoadOptions
from ollama_exporter.actions.renew import Renewal, RenewClient
from ollama_exporter.actions.renewal_outcome import RenewalOutcome
from ollama_exporter.actions.shared_blobs import BlobResolver, SharedBlobs
from ollama_exporter.bounded import BoundedDict
from ollama_exporter.clock import Timeline
from ollama_exporter.poller.published import Published
from ollama_exporter.protocol.client import PsAnswer
from ollama_exporter.protocol.model_names import match_key
from ollama_exporter.protocol.wire import InstalledModel, RunningModel
from ollama_exporter.reporter import Reporter

MAX_LOCKS: Final = 1024


class ActionClient(RenewClient, BlobResolver, Protocol):
    """The requests that keep-warm and the defaults send."""

    async def tags(self) -> tuple[InstalledModel, ...]:
        """Return the installed models."""

    async def aclose(self) -> None:
        """Close all connections."""


class ActionContext(Struct, frozen=True):
    """What the actions know of the server, and where they report."""

    published: Callable[[], Published]
    poll: Callable[[], Awaitable[None]]
    is_loading: Callable[[], bool]  # requests wait for a load
    timeline: Timeline
    reporter: Reporter
    save_soon: Callable[[], None]  # writes the state file, if there is one


class ControlledServer(Struct, frozen=True):
    """A client of the server, and what is known of its models.

    Renewals of one runner wait for each other: between the look and the change of one, another
    could set a longer keep-alive, which the first would shorten.
    """

    client: ActionClient
    blobs: SharedBlobs
    options: LoadOptions
    context: ActionContext
    _locks: BoundedDict[str, asyncio.Lock] = field(default_factory=lambda: BoundedDict(MAX_LOCKS))

    async def listed_name(self, model: str) -> str | None:
        """Return the name under which a model's runner is listed now; None: it is not resident."""
        return (await self._find(model))[1]

    async def renew(self, model: str, keep_alive: float) -> Renewal:
        """Give a resident model a keep-alive, in seconds, unless it has a longer one."""
        return await self._renew(model, *(await self._find(model)), keep_alive)

    async def ensure(self, model: str, keep_alive: float) -> Renewal:
        """Renew an idle model just used, unless its deadline shows that this is not needed.

        The end of a request writes the deadline: if it is far enough, the keep-alive is long
        enough.
        """
        answer, listed = await self._find(model)
        entry = None if listed is None else renew.find_entry(answer, listed)
        if entry is not None:
            left = renew.time_left(answer, entry)
            if left >= keep_alive - renew.TOLERANCE:
                return Renewal(RenewalOutcome.LONGER, entry, None, left)
        return await self._renew(model, answer, listed, keep_alive)

    async def _find(self, model: str) -> tuple[PsAnswer, str | None]:
        answer = await self.client.ps()
        names = [each.name for each in answer.models]
        await self.blobs.resolve((name, 0) for name in (*names, model))
        return answer, self.blobs.listed_name(model, names)

    async def _is_outdated(self, resident: RunningModel) -> bool:
        """Return whether a resident model's name has other weights by now, or is not installed.

        A touch would then load the new weights, not renew the old ones.
        """
        installed = {match_key(each.name): each.digest for each in await self.client.tags()}
        digest = installed.get(match_key(resident.name))
        if digest is None:
            return True
        if not digest or not resident.digest or digest == resident.digest:
            return False
        weights = self.blobs.weights(resident.digest)
        return weights is None or (await self.client.details(resident.name)).weights != weights

    async def _renew(
        self, model: str, answer: PsAnswer, listed: str | None, keep_alive: float
    ) -> Renewal:
        entry = None if listed is None else renew.find_entry(answer, listed)
        if listed is None or entry is None:
            return Renewal(RenewalOutcome.ABSENT)
        if await self._is_outdated(entry):
            return Renewal(RenewalOutcome.OUTDATED, entry, left=renew.time_left(answer, entry))
        if listed not in self._locks:
            self._locks[listed] = asyncio.Lock()

        def options(context: int) -> Mapping[str, Any]:
            return self.options.for_resident(model, context)

        async with self._locks[listed]:
            self.context.reporter.own_use(model, self.context.timeline.now())
            return await renew.renew(self.client, listed, keep_alive, options=options)
