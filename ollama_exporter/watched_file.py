# SPDX-License-Identifier: Apache-2.0
"""Files that are read again while the exporter runs: credentials, certificates, locks.

A file that was emptied, removed or damaged is logged at once and counted.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from ollama_exporter.errors import ConfigError

# Seconds for which the last credential stays valid while the file holds none: a file that is
# written anew may be empty or missing for a moment.
GRACE: Final = 30.0
READ_TIMEOUT: Final = 2.0  # seconds; a file on a server that is gone may never be read
UNUSABLE: Final = "Credential file cannot be used"
UNUSABLE_CERTIFICATE: Final = "Certificate cannot be used, the old one stays"
T = TypeVar("T")
logger = logging.getLogger(__name__)


def not_counted(_setting: str) -> None:
    """Count nothing: for commands, which have no metrics."""


class WatchedFile(Generic[T]):
    """The content of a file that is read again and again.

    `refresh` reads it in a thread, `reread` in the caller's.
    """

    def __init__(
        self,
        setting: str,
        load: Callable[[], T],
        *,
        now: Callable[[], float],
        on_error: Callable[[str], None],
        grace: float | None = GRACE,
    ) -> None:
        """`load` reads the file and raises ConfigError; here, it is read for the first time.

        `on_error` counts failed reads by setting. `grace`: None if the last content stays in use.
        """
        self._setting, self._load, self._now = setting, load, now
        self._on_error, self._grace = on_error, grace
        self._value: T | None = load()
        self._problem, self._failing_since = "", 0.0
        self._reading: asyncio.Task[T] | None = None  # of `refresh`

    def current(self) -> T | None:
        """Return the content in use; None if the file has been unusable for longer than GRACE."""
        return self._value

    def reread(self) -> T | None:
        """Read the file again, and return the content in use as `current` does.

        For who needs it rarely and reads local files alone: a file that hangs blocks the caller.
        """
        self._take(self._load)
        return self._value

    async def refresh(self) -> None:
        """Read the file again in a thread: it blocks nothing, however long it takes."""
        if self._reading is None:
            self._reading = asyncio.create_task(asyncio.to_thread(self._load))
        done, _ = await asyncio.wait({self._reading}, timeout=READ_TIMEOUT)
        if not done:
            self._on_failed_read(f"the file cannot be read within {READ_TIMEOUT:g} s")
            return
        reading, self._reading = self._reading, None
        self._take(reading.result)

    def _take(self, content: Callable[[], T]) -> None:
        try:
            value = content()
        except ConfigError as err:
            self._on_failed_read(str(err))
        else:
            self._on_read(value)

    def _on_read(self, value: T) -> None:
        values = {"setting": self._setting}
        if self._problem:
            logger.info("Credential is usable again", extra=values)
        elif value != self._value:
            logger.info("Credential changed", extra=values)
        self._problem, self._value = "", value

    def _on_failed_read(self, problem: str) -> None:
        self._on_error(self._setting)
        if not self._problem:
            self._failing_since = self._now()
        if problem != self._problem:
            values: dict[str, object] = {"setting": self._setting, "err": problem}
            if self._grace is not None:
                values["old_one_valid"] = f"{self._grace:g}s"
            logger.warning(UNUSABLE_CERTIFICATE if self._grace is None else UNUSABLE, extra=values)
        self._problem = problem
        if self._grace is None or self._value is None:
            return
        if self._now() - self._failing_since >= self._grace:
            self._value = None
            logger.error(
                "Credential is void: its file cannot be used", extra={"setting": self._setting}
            )


def listening_context(certificate: WatchedFile[ssl.SSLContext]) -> ssl.SSLContext:
    """Return a context that takes the certificate in use anew for each handshake.

    Changing the certificate of a context that is in use could leave it without its key.
    """
    context = certificate.current()
    assert context is not None  # noqa: S101 - it has no grace, so there is always one

    def choose(connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = certificate.current() or context

    context.sni_callback = choose  # called without SNI as well
    return context
