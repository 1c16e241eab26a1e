# SPDX-License-Identifier: Apache-2.0
"""One HTTP/1.1 connection, and one request at a time on it.

httpx costs half a millisecond for each request, twice that for each connection, and cannot be told
which address to connect to. Servers of a fleet and runners are asked by the thousand and each few
seconds, and a free probe goes to the address that was checked.
"""

import asyncio
from http import HTTPStatus
from typing import Final, cast

import httptools
from msgspec import Struct, field

from ollama_exporter.errors import FailureReason, TargetError

LARGEST_HEAD: Final = 32 << 10
MOST_FIELDS: Final = 100
FREE: Final = 64 << 10  # bytes of an answer that are not taken from what all answers share
INTERIM: Final = 200  # below, another answer follows
NO_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class BodyBudget:
    """Bytes that all large answers may take at the same time."""

    def __init__(self, total: int) -> None:
        self._left = total

    def take(self, count: int) -> bool:
        """Reserve bytes; return False if there are none left."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give(self, count: int) -> None:
        """Give bytes back."""
        self._left += count


class Answer(Struct):
    """An answer, as far as it was read. Names of fields are in lower case."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class KeptConnection(asyncio.Protocol):
    """Sends requests and reads their answers. What does not fit HTTP or a limit closes it."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Answer] | None = None
        self._closed = False
        self._reset(0)

    def _reset(self, limit: int) -> None:
        self._limit = limit
        self._answer = Answer()
        self._parts: list[bytes] = []
        self._size = self._taken = self._head = 0
        self._head_complete = self._framed = self._has_answer = False

    @property
    def was_left_unanswered(self) -> bool:
        """Whether the connection ended before the first byte of the last answer."""
        return self._closed and not self._has_answer

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return not self._closed and self._transport is not None

    async def request(self, head: bytes, *, limit: int) -> Answer:
        """Send a request without a body; return its answer. Raises TargetError.

        `limit`: bytes of the answer's body. Cancelled, it closes the connection.
        """
        transport = self._transport
        if self._closed or transport is None:
            raise TargetError(FailureReason.RESET, "the connection is closed")
        self._reset(limit)
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        transport.write(head)
        try:
            answer: Answer = await waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._budget.give(self._taken)
            self._taken, self._parts, self._waiter = 0, [], None
        return answer

    def close(self) -> None:
        """Drop the connection."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request under way, unless the end of the connection ends its body."""
        self._closed = True
        if exc is None and self._head_complete and not self._framed:
            self._done()
        self._fail(FailureReason.RESET, str(exc or "the server closed the connection"))
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Read."""
        if self._waiter is None or self._waiter.done():
            self.close()  # nobody has asked
            return
        self._has_answer = True
        if not self._head_complete:
            self._head += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as err:
            self._refuse(str(err.__context__ or err))
        except httptools.HttpParserUpgrade:
            self._refuse("the server switches protocols")
        except httptools.HttpParserError as err:
            self._refuse(f"not HTTP: {err}")
        if not self._head_complete and self._head > LARGEST_HEAD:
            self._refuse("the head of the answer is too large")

    # -- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Refuse an answer behind the answer: nobody has asked for it."""
        if self._waiter is None or self._waiter.done():
            raise ValueError("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a field."""
        fields = self._answer.fields
        if len(fields) >= MOST_FIELDS:
            raise ValueError("the answer has too many header fields")
        fields[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note the status, and how the body ends."""
        answer = self._answer
        answer.status = self._parser.get_status_code()
        self._head_complete = answer.status >= INTERIM
        self._framed = (
            "content-length" in answer.fields
            or "transfer-encoding" in answer.fields
            or answer.status in NO_BODY
        )

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body, within its limit and what all answers share."""
        before, self._size = self._size, self._size + len(data)
        if self._size > self._limit:
            raise ValueError(f"answer is larger than {self._limit >> 10} KiB")
        wanted = max(0, self._size - FREE) - max(0, before - FREE)
        if wanted and not self._budget.take(wanted):
            raise ValueError("too many large answers at the same time")
        self._taken += wanted
        self._parts.append(data)

    def on_message_complete(self) -> None:
        """End the answer, unless it was an interim one."""
        if self._head_complete:
            self._done()
        else:
            self._answer = Answer()

    def _done(self) -> None:
        if not self._closed and not self._parser.should_keep_alive():
            self.close()
        if self._waiter is not None and not self._waiter.done():
            self._answer.body = b"".join(self._parts)
            self._waiter.set_result(self._answer)

    def _refuse(self, why: str) -> None:
        self._fail(FailureReason.MALFORMED, why)
        self.close()

    def _fail(self, reason: FailureReason, why: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TargetError(reason, why))
