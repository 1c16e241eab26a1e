# SPDX-License-Identifier: Apache-2.0
"""Why a connection was not made: only a refusal shows that the server does not run."""

import os
import ssl
from collections.abc import Iterator

from ollama_exporter.errors import FailureReason, TargetError


def connect_failure(err: OSError) -> FailureReason:
    """Return why no connection was made."""
    match err:
        case ConnectionRefusedError():
            return FailureReason.REFUSED
        case ConnectionResetError():
            return FailureReason.RESET
        case TimeoutError():
            return FailureReason.TIMEOUT
        case _:
            return FailureReason.UNREACHABLE


def no_connection(err: BaseException, detail: str) -> TargetError:
    """Return the error for one of httpx. `detail`: its own words, where it has no cause."""
    causes = list(_system_errors(err))
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return TargetError(FailureReason.RESET, detail)
    if not causes:
        return TargetError(FailureReason.UNREACHABLE, detail)
    # Of a name with several addresses, one that refuses says most.
    cause = min(causes, key=lambda each: not isinstance(each, ConnectionRefusedError))
    return TargetError(connect_failure(cause), why_no_connection(cause))


def why_no_connection(err: OSError) -> str:
    """Return the system's own words, without the address that asyncio adds to them."""
    if (err.errno or 0) > 0:
        return os.strerror(err.errno or 0)
    return err.strerror or str(err) or type(err).__name__


def _system_errors(err: BaseException | None) -> Iterator[OSError]:
    """Yield the system's errors behind one of httpx: it wraps httpcore's, which wraps anyio's."""
    if isinstance(err, BaseExceptionGroup):  # one for each address
        for each in err.exceptions:
            yield from _system_errors(each)
    elif err is not None:
        yield from _system_errors(err.__cause__ or err.__context__)
        if isinstance(err, OSError) and (err.errno or isinstance(err, ssl.SSLError)):
            yield err
