# SPDX-License-Identifier: Apache-2.0
"""The limit of open files: raised at the start, and one log line when it is reached.

The usual soft limit is 1024, for programs that use select(2). The hard limit is much higher, and a
process may raise its soft limit up to it; Go's runtime does so as well.
"""

import asyncio
import concurrent.futures.thread  # noqa: F401 - asyncio would at its first thread: a file to open
import errno
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final

if sys.platform != "win32":
    import resource

HIGHEST: Final = 1 << 20  # some systems refuse more than that, although they call it unlimited
RESERVED: Final = 64  # open files besides the proxy's connections: scrapes, polls, logs, processes
LEAST: Final = 8  # connections, however low the limit is
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
LOG_INTERVAL: Final = 60.0  # seconds between two log lines about the same
logger = logging.getLogger(__name__)


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard one, where there is such a limit."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = HIGHEST if hard == resource.RLIM_INFINITY else min(hard, HIGHEST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as err:  # macOS accepts no more than its own maximum
        logger.debug("Limit of open files not raised", extra={"limit": soft, "err": str(err)})


def affordable_connections(wanted: int) -> int:
    """Return how many of the proxy's connections the limit of open files allows.

    Each takes two: the client's and the server's.
    """
    if sys.platform == "win32":
        return wanted
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    affordable = max(LEAST, (limit - RESERVED) // 2)
    if affordable < wanted:
        values = {"max_connections": wanted, "possible": affordable, "open_files": limit}
        logger.warning(
            "Too few open files for proxy.max-connections: raise LimitNOFILE", extra=values
        )
    return min(wanted, affordable)


class ExhaustionHandler:
    """An event loop's exception handler: running out of open files is one log line a minute.

    asyncio reports it with a traceback for each connection that it cannot accept.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._logged_at: float | None = None

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what is wrong."""
        err = context.get("exception")
        if not (isinstance(err, OSError) and err.errno in EXHAUSTED):
            loop.default_exception_handler(context)
            return
        now = self._monotonic()
        if self._logged_at is None or now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            logger.error(
                "No connection can be accepted: the limit of open files is reached",
                extra={"err": err.strerror or str(err)},
            )
