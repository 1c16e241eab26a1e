# SPDX-License-Identifier: Apache-2.0
"""Asks a running exporter what it tells of one server, or of several."""

from dataclasses import dataclass
from typing import Final

from ollama_exporter.bounded_client import BoundedClient, printable
from ollama_exporter.errors import SourceError
from ollama_exporter.foreign_text import query
from ollama_exporter.story.document import STATUS, StatusDocument, read_document
from ollama_exporter.story.fleet_document import TARGETS, FleetDocument, read_fleet

PATH: Final = f"{STATUS}?seconds=3600"
PATIENCE: Final = 3.0  # seconds for an answer that another look follows
PATIENCE_ONCE: Final = 15.0  # for one that is the only one: a host that generates is busy
HINT: Final = "; is an exporter running there? Without --url, top polls the server by itself"
NOT_FOUND: Final = 404
Told = StatusDocument | FleetDocument


@dataclass(frozen=True, slots=True)
class AskedExporter:
    """An exporter at a URL. Each question raises SourceError if it is not answered."""

    client: BoundedClient
    base: str

    async def ask(self, target: str | None) -> tuple[bytes, Told]:
        """Return what it tells of a server, as it came and read.

        Without a target: of its only server, or of all servers in short.
        """
        try:
            return await self.ask_one(target or "")
        except SourceError as err:
            if target or err.status != NOT_FOUND:
                raise
            try:
                return await self.ask_all()
            except SourceError:
                raise err from None  # it has no list either: it is no exporter

    async def ask_one(self, target: str) -> tuple[bytes, StatusDocument]:
        """Return what it tells of one server; an empty name: of its only one."""
        body = await self._body(PATH + (f"&{query({'target': target})}" if target else ""))
        return body, read_document(body, source=printable(self.base))

    async def ask_all(self) -> tuple[bytes, FleetDocument]:
        """Return what it tells of all servers in short."""
        body = await self._body(TARGETS)
        return body, read_fleet(body, source=printable(self.base))

    async def _body(self, path: str) -> bytes:
        return await self.client.ask("GET", self.base.rstrip("/") + path, hint=HINT)
