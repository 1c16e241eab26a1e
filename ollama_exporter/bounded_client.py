# SPDX-License-Identifier: Apache-2.0
"""Requests to exporters and to Prometheus, bounded in time and size. Redirects are not followed.

Every error is a SourceError of one printable line.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from ollama_exporter.config.target import Target
from ollama_exporter.errors import ConfigError, SourceError
from ollama_exporter.foreign_text import clean, mask_user_info
from ollama_exporter.protocol.client import tls_context
from ollama_exporter.protocol.credential_files import read_token
from ollama_exporter.version import __version__

TIMEOUT: Final = 30.0  # seconds: Prometheus needs a while for two weeks of a fleet
LARGEST: Final = 64 * 2**20
LONGEST_TEXT: Final = 200  # characters of foreign text in an error message
ADVICE: Final = {  # what to do about a status
    401: ": it wants a login; put USER:PASSWORD@ before the host, or name a token file",
    403: ": it does not let you in",
    404: ": it is no exporter, an older one, or one of several servers (then name a target)",
}
REFUSALS: Final = (400, 422)  # Prometheus explains in the body what is wrong with a query
PLACE: Final = "exporter"  # of the files, in errors that are translated here
UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"
CLOSED: Final = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a locked server asks for. `prefix`: of the options that name the files."""

    token_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    prefix: str = ""


ANONYMOUS: Final = Credentials()


class BoundedClient:
    """Asks one server. Each request has a connection and an end of its own."""

    def __init__(self, credentials: Credentials = ANONYMOUS, *, timeout: float = TIMEOUT) -> None:
        """Raise ConfigError if a file cannot be used. `timeout`: seconds for a whole answer."""
        self._credentials, self._timeout = credentials, timeout
        self._headers = {
            "user-agent": f"ollama_exporter/{__version__}",
            "accept-encoding": "identity",
        }
        if credentials.token_file is not None:
            token = read_token(credentials.token_file, field=f"{credentials.prefix}token-file")
            self._headers["authorization"] = f"Bearer {token}"
        self._context: ssl.SSLContext | None = None
        if credentials.ca_file or credentials.cert_file or credentials.key_file:
            self._tls()

    def _tls(self) -> ssl.SSLContext:
        """Return the TLS context. It is made once. Raises ConfigError."""
        if self._context is None:
            files, prefix = self._credentials, self._credentials.prefix
            target = Target(
                "",
                "https:",
                files.ca_file,
                cert_file=files.cert_file,
                key_file=files.key_file,
                section=PLACE,
            )
            try:
                self._context = tls_context(target)
            except ConfigError as err:
                option = f"{prefix}{err.field.rpartition('.')[2]}"
                accepted = err.accepted.replace(f"{PLACE}.tls.", prefix)
                raise ConfigError(option, err.value, accepted) from err
        return self._context

    def fetch(
        self, method: str, url: str, *, hint: str = "", form: Mapping[str, str] | None = None
    ) -> bytes:
        """Do the same as `ask`, in a thread without an event loop."""
        return asyncio.run(self.ask(method, url, hint=hint, data=form))

    async def ask(
        self,
        method: str,
        url: str,
        *,
        hint: str = "",
        **content: Any,  # noqa: ANN401 - httpx's own: data, json
    ) -> bytes:
        """Return the body of an answer, also of one that explains a refusal. Raises SourceError.

        `hint`: what to do if there is no server.
        """
        shown = printable(url)
        try:
            response, body = await self._send(method, url, content)
        except (TimeoutError, httpx.TimeoutException) as err:
            raise SourceError(f"{shown} has not answered within {self._timeout:g} s") from err
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, ValueError) as err:
            text = f"Cannot connect to {shown} ({reason(err)}){self._tls_hint(url, err) or hint}"
            raise SourceError(text, answered=False) from err
        if response.is_success or response.status_code in REFUSALS:
            return body
        if response.is_redirect:
            location = printable(response.headers.get("location", ""))
            raise SourceError(f"{shown} redirects to {location}; use that URL instead")
        status = response.status_code
        text = f"{shown} answers with HTTP status {status}{ADVICE.get(status, '')}"
        raise SourceError(text, status=status)

    async def _send(
        self, method: str, url: str, content: Mapping[str, Any]
    ) -> tuple[httpx.Response, bytes]:
        """Return an answer and its body. httpx bounds each read, so the whole is bounded here."""
        body = bytearray()
        http = httpx.AsyncClient(
            verify=self._tls() if url.lower().startswith("https:") else False,
            timeout=None,  # noqa: S113 - the next line bounds all of it
            headers=self._headers,
            trust_env=False,
            follow_redirects=False,
        )
        async with (
            asyncio.timeout(self._timeout),
            http,
            http.stream(method, url, **content) as response,
        ):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > LARGEST:
                    limit = LARGEST // 2**20
                    raise SourceError(f"{printable(url)} answers with more than {limit} MiB")
        return response, bytes(body)

    def _tls_hint(self, url: str, err: Exception) -> str:
        """Return what to do about a failed handshake; empty if it was none."""
        prefix, is_tls = self._credentials.prefix, url.lower().startswith("https:")
        if is_tls and UNTRUSTED in str(err):
            return f". Name the authority of its certificate with --{prefix}ca-file."
        # With TLS 1.3 a server that misses a certificate closes only after the handshake.
        if is_tls and isinstance(err, CLOSED) and self._credentials.cert_file is None:
            return f". It may want a certificate of yours: --{prefix}cert-file."
        return ""


def printable(text: str) -> str:
    """Return foreign text as an error message may repeat it; a password in a URL is masked."""
    return clean(mask_user_info(text), limit=LONGEST_TEXT)


def reason(err: Exception) -> str:
    """Return the first line of an error's text."""
    return printable((str(err) or type(err).__name__).split("\n", 1)[0])
