# SPDX-License-Identifier: Apache-2.0
"""Requests to exporters and to Prometheus, bounded in time and size. Redirects are not followed.

Every error is a HistoryError of one printable line.
"""

import time
from pathlib import Path
from typing import Any, Final

import httpx

from ollama_exporter.errors import HistoryError
from ollama_exporter.foreign_text import clean, mask_user_info
from ollama_exporter.protocol.bearer_token import read_token
from ollama_exporter.version import __version__

TIMEOUT: Final = 30.0  # seconds: Prometheus needs a while for two weeks of a fleet
Client = httpx.Client
LARGEST: Final = 64 * 2**20
LONGEST_TEXT: Final = 200  # characters of foreign text in an error message
ADVICE: Final = {  # what to do about a status
    401: ": it wants a login; put USER:PASSWORD@ before the host, or name a token file",
    403: ": it does not let you in",
    404: ": it is no exporter, an older one, or one of several servers (then name a target)",
}
REFUSALS: Final = (400, 422)  # Prometheus explains in the body what is wrong with a query


def new_client(token_file: Path | None = None, *, timeout: float = TIMEOUT) -> httpx.Client:
    """Return a client. Raises ConfigError if the token cannot be read."""
    headers = {"user-agent": f"ollama_exporter/{__version__}", "accept-encoding": "identity"}
    if token_file is not None:
        headers["authorization"] = f"Bearer {read_token(token_file, field='token-file')}"
    return httpx.Client(timeout=timeout, headers=headers, trust_env=False, follow_redirects=False)


def fetch(
    http: httpx.Client,
    method: str,
    url: str,
    *,
    timeout: float = TIMEOUT,
    hint: str = "",
    **more: Any,  # noqa: ANN401 - httpx's own
) -> bytes:
    """Return the body of an answer, also of one that explains a refusal. Raises HistoryError.

    `hint`: what to do if there is no server.
    """
    began, body, shown = time.monotonic(), bytearray(), printable(url)
    try:
        with http.stream(method, url, **more) as response:
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > LARGEST:
                    raise HistoryError(f"{shown} answers with more than {LARGEST // 2**20} MiB")
                if time.monotonic() - began > timeout:  # httpx bounds each read, not the answer
                    raise HistoryError(f"{shown} has not answered within {timeout:g} s")
    except httpx.TimeoutException as err:
        raise HistoryError(f"{shown} has not answered within {timeout:g} s") from err
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, ValueError) as err:
        text = f"Cannot connect to {shown} ({reason(err)}){hint}"
        raise HistoryError(text, answered=False) from err
    if response.is_success or response.status_code in REFUSALS:
        return bytes(body)
    if response.is_redirect:
        location = printable(response.headers.get("location", ""))
        raise HistoryError(f"{shown} redirects to {location}; use that URL instead")
    advice = ADVICE.get(response.status_code, "")
    raise HistoryError(f"{shown} answers with HTTP status {response.status_code}{advice}")


def printable(text: str) -> str:
    """Return foreign text as an error message may repeat it; a password in a URL is masked."""
    return clean(mask_user_info(text), limit=LONGEST_TEXT)


def reason(err: Exception) -> str:
    """Return the first line of an error's text."""
    return printable((str(err) or type(err).__name__).split("\n", 1)[0])
