# SPDX-License-Identifier: Apache-2.0
"""The document of `/api/v1/status`, for those who read it in Python. Pure."""

from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from ollama_exporter.errors import SourceError
from ollama_exporter.story.past import Past
from ollama_exporter.story.status import MemoryNow, ServerNow, Status

STATUS: Final = "/api/v1/status"
T = TypeVar("T")


class StatusDocument(Struct, frozen=True, kw_only=True):
    """Everything that the exporter tells of one server."""

    now: float  # when it was made, Unix seconds
    span: float = 0.0  # how far back `past` reaches, seconds
    boot: str = ""
    number: int = 0
    status: Status
    past: Past = Past()


EMPTY = StatusDocument(
    now=0.0, status=Status(server=ServerNow(url="", up=False), memory=MemoryNow())
)


def read_document(body: bytes, *, source: str = "") -> StatusDocument:
    """Return a document; fields that it does not know are ignored. Raises SourceError.

    `source`: who sent it, for the message.
    """
    return decoded(body, StatusDocument, what="status", source=source)


def decoded(body: bytes, kind: type[T], *, what: str, source: str) -> T:
    """Return a document of a kind. Raises SourceError, which calls it `what` of an exporter."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        why = str(err).splitlines()[0]
        raise SourceError(f"{source or 'that'} is no {what} of an exporter: {why}") from err
