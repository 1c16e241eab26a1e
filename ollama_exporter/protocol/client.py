# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of one Ollama server. It translates httpx's errors to TargetError."""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

import httpx
from msgspec import Struct

from ollama_exporter.config.target import DEFAULT_TIMEOUT, Target
from ollama_exporter.errors import ConfigError, FailureReason, TargetError
from ollama_exporter.files import read_regular
from ollama_exporter.foreign_text import clean, mask_address, mask_user_info
from ollama_exporter.protocol.connect_failures import no_connection
from ollama_exporter.protocol.decompress import decompressed
from ollama_exporter.protocol.last_listing import LastListing
from ollama_exporter.protocol.server_credentials import ServerCredentials
from ollama_exporter.protocol.wire import (
    PS,
    TAGS,
    InstalledModel,
    ModelDetails,
    OnMalformed,
    RunningModel,
    decode_details,
    decode_show,
    decode_tags,
    decode_version,
    server_date,
)
from ollama_exporter.version import __version__
from ollama_exporter.watched_file import not_counted

LARGEST_BODY: Final = 16 * 2**20
LARGEST_CA_FILE: Final = 4 * 2**20  # bytes; the bundle of a browser has a quarter of a MiB
HTML: Final = "a web page instead of JSON: a login page, or another server at this address"
PAGES: Final = ("text/html", "application/xhtml+xml")
PAGE: Final = re.compile(rb"[\s\xef\xbb\xbf]{0,64}<(?:!doctype\s+html|html)\b", re.IGNORECASE)
LONGEST_LOCATION: Final = 200  # characters
NOT_HTTP: Final = "illegal"  # in what h11 says of a head that is not valid HTTP
OWN_FIELDS: Final = {
    "accept": "*/*",
    "accept-encoding": "identity",
    "user-agent": f"ollama_exporter/{__version__}",
}
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# The first match counts. ConnectError is not here: its reason depends on its cause.
REASONS: Final = (
    (httpx.TimeoutException, FailureReason.TIMEOUT),
    (httpx.NetworkError, FailureReason.RESET),
    (httpx.LocalProtocolError, FailureReason.MALFORMED),
    (httpx.RemoteProtocolError, FailureReason.RESET),
)


class PsAnswer(Struct, frozen=True):
    """An answer of `/api/ps`. `date` is its Date header in Unix seconds of the server's clock."""

    models: tuple[RunningModel, ...]
    status: int
    date: float | None
    date_header: str | None
    new_connection: bool
    body: bytes


class TransportSlot:
    """Holds one transport of httpx and replaces it after a request on it timed out.

    A request that is cancelled at the wrong moment never returns its place in httpx's pool. Our
    pools have one place, so no later request would be sent (seen with httpcore 1.0.9).

    httpx's client around the transport would handle redirects, cookies, proxies and hooks, none of
    which a poll may have, for 0.3 ms each time.
    """

    def __init__(self, new_transport: Callable[[], httpx.AsyncHTTPTransport]) -> None:
        self._new_transport = new_transport
        self.transport = new_transport()
        self.is_new = False  # the latest answer came on a connection without an earlier one
        self.is_closed = False  # a transport would open a connection again, which nobody closes
        self._connection: object = None

    def on_answer(self, response: httpx.Response) -> None:
        """Note the answer's connection. httpx's trace would tell it too, in 0.1 ms a poll."""
        connection = response.extensions.get("network_stream")
        self.is_new, self._connection = connection is not self._connection, connection

    async def replace(self) -> None:
        """Close the transport and continue with a new one."""
        old, self.transport = self.transport, self._new_transport()
        await old.aclose()

    async def aclose(self) -> None:
        """Close the transport. Nothing is asked on it from now on."""
        self.is_closed = True
        await self.transport.aclose()


class OllamaClient:
    """Asks one server. Every method raises TargetError and ends within `timeout` seconds.

    Polls have a connection of their own, because its loss is a sign of a restart.
    """

    def __init__(
        self,
        target: Target,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        ssl_context: ssl.SSLContext | None = None,
        malformed: OnMalformed | None = None,
        on_file_error: Callable[[str], None] = not_counted,
    ) -> None:
        """`malformed` is called for each entry of a listing with a field that cannot be read.

        `on_file_error` counts, by setting, credential files that cannot be read.
        """
        self._target = target
        self._timeout = timeout
        context = ssl_context or tls_context(target)
        check_url(target)
        self._new_transport = lambda: transport(context)
        self._polls = TransportSlot(self._new_transport)
        self._others = TransportSlot(self._new_transport)
        self._credentials = ServerCredentials(target, on_file_error=on_file_error)
        name = target.server_name
        self._extensions: dict[str, Any] = {} if name is None else {"sni_hostname": name}
        # By path: the fields of a GET, and the request that was made with them.
        self._made: dict[str, tuple[dict[str, str], httpx.Request]] = {}
        self._malformed, self._listing = malformed, LastListing(malformed)

    async def ps(self) -> PsAnswer:
        """Get the resident models."""
        fields, body = await self._ask(self._polls, PS)
        header = fields.get("date")
        date = server_date(header)
        models = self._listing.decode(body)
        return PsAnswer(models, HTTPStatus.OK, date, header, self._polls.is_new, body)

    async def version(self) -> str:
        """Get the server's version."""
        return decode_version((await self._ask(self._others, "/api/version"))[1])

    async def tags(self) -> tuple[InstalledModel, ...]:
        """Get the installed models."""
        return decode_tags((await self._ask(self._others, TAGS))[1], self._malformed)

    async def show(self, name: str) -> str | None:
        """Get the weights blob of a model, or None if it has none, as cloud models do."""
        return decode_show((await self._ask(self._others, "/api/show", json={"model": name}))[1])

    async def details(self, name: str) -> ModelDetails:
        """Return what `/api/show` tells of a model."""
        return decode_details((await self._ask(self._others, "/api/show", json={"model": name}))[1])

    async def aclose(self) -> None:
        """Close all connections."""
        await self._polls.aclose()
        await self._others.aclose()

    async def _ask(
        self,
        slot: TransportSlot,
        path: str,
        *,
        json: Mapping[str, str] | None = None,
    ) -> tuple[Mapping[str, str], bytes]:
        """Send a GET, or a POST if there is a `json` body; return header fields and body."""
        raw = bytearray()
        build = partial(self._get, path) if json is None else partial(self._post, path, json)
        response = await self._send(slot, build, raw.extend, timeout=self._timeout)
        # httpx's own mapping guesses an encoding and joins fields of one name, each time.
        fields = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in response.headers.raw
        }
        encoding = fields.get("content-encoding", "")
        body = decompressed(bytes(raw), encoding, limit=LARGEST_BODY)
        check_answer(response.status_code, fields, body, self._target)
        return fields, body

    def _get(self, path: str) -> httpx.Request:
        """Return a request; the same one again while the credentials are the same."""
        fields = self._credentials.fields()
        kept = self._made.get(path)
        if kept is None or kept[0] != fields:
            kept = self._made[path] = fields, self._request("GET", path, fields)
        return kept[1]

    def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Request:
        return self._request("POST", path, self._credentials.fields(), body)

    def _request(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
    ) -> httpx.Request:
        """Return a request. Without valid credentials the server answers 401."""
        return httpx.Request(
            method,
            f"{self._target.url}{path}",
            headers={**OWN_FIELDS, **fields},
            json=None if body is None else dict(body),
            extensions=self._extensions,
        )

    async def _send(
        self,
        slot: TransportSlot,
        build: Callable[[], httpx.Request],
        on_chunk: Callable[[bytes], None],
        *,
        timeout: float,  # noqa: ASYNC109 - each request has its own
    ) -> httpx.Response:
        """Send a request and pass each chunk of the answer's body to `on_chunk`.

        `build` may raise what httpx does of a host that is no name.
        """
        if slot.is_closed:
            raise TargetError(FailureReason.RESET, "the client is closed")
        try:
            # httpx limits the time of each read, not of the answer: a trickling body has no end.
            async with asyncio.timeout(timeout):
                response = await slot.transport.handle_async_request(build())
                slot.on_answer(response)
                stream = cast("httpx.AsyncByteStream", response.stream)
                try:
                    await _read(stream, on_chunk)
                finally:
                    await stream.aclose()
        except TimeoutError as err:
            await slot.replace()
            raise TargetError(FailureReason.TIMEOUT, f"no answer in {timeout:g} s") from err
        except httpx.HTTPError as err:
            raise _translate(err) from err
        except OSError as err:  # ssl.SSLError is one
            raise TargetError(FailureReason.RESET, str(err)) from err
        except UnicodeError as err:  # a host name that cannot be encoded for DNS
            raise TargetError(FailureReason.UNREACHABLE, str(err)) from err
        return response


def check_answer(
    status: int, headers: Mapping[str, str], body: bytes | bytearray, target: Target
) -> None:
    """Raise TargetError unless the status is 200 and the body is no web page.

    `headers`: by their names in lower case.
    """
    if status != HTTPStatus.OK:
        text, advice = f"HTTP status {status}", status_advice(status, headers, body, target)
        raise TargetError(FailureReason.STATUS, f"{text}: {advice}" if advice else text)
    if is_web_page(headers.get("content-type", ""), body):
        raise TargetError(FailureReason.MALFORMED, HTML)


def is_web_page(content_type: str, body: bytes | bytearray) -> bool:
    """Return whether an answer is a web page, by its content type or its beginning."""
    return content_type.partition(";")[0].strip().lower() in PAGES or PAGE.match(body) is not None


def status_advice(  # noqa: PLR0911 - a table of statuses, one line each
    status: int, headers: Mapping[str, str], body: bytes | bytearray, target: Target
) -> str:
    """Return what usually causes a status other than 200, and what helps; empty if unknown.

    `headers`: by their names in lower case.
    """
    base, url = target.url, target.setting("url")
    if status in REDIRECTS and "location" in headers:
        try:
            httpx.URL(headers["location"])
        except httpx.InvalidURL:
            return f"redirects to an address that is no URL; set {url} to Ollama's own address"
        location = "".join(c for c in headers["location"] if c.isprintable() and c != " ")
        leads_to = mask_user_info(location)[:LONGEST_LOCATION] or "nowhere"
        return f"redirects to {leads_to}; set {url} to that server"
    if status == HTTPStatus.NOT_FOUND and base.endswith(("/v1", "/api")):
        root = base.rsplit("/", 1)[0]
        return f"{url} is the server's root, {root}, without /v1 or /api"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"it wants credentials; set {target.setting('bearer-token-file')}"
    if status == HTTPStatus.LOOP_DETECTED:
        return f"{url} leads to this exporter's own proxy; set it to the address of Ollama"
    if is_web_page(headers.get("content-type", ""), body):
        return HTML
    if status == HTTPStatus.NOT_FOUND and b"error" not in body[:LONGEST_LOCATION]:
        return f"{url} leads to no Ollama, or to one from before May 2024, which lacks /api/ps"
    return ""


def tls_context(target: Target) -> ssl.SSLContext:
    """Return the TLS context of a target. Clients should share it: each context takes 0.9 MB.

    Raises ConfigError.
    """
    context = _trusting(target)
    if target.insecure_skip_verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if target.cert_file is None:
        if target.key_file is not None:
            names = target.setting("tls.key-file"), target.setting("tls.cert-file")
            raise ConfigError(names[0], str(target.key_file), f"set it together with {names[1]}")
        return context
    try:
        for file in (target.cert_file, target.key_file):
            if file is not None:
                read_regular(file, limit=LARGEST_CA_FILE)  # a FIFO would block
        # A key with a passphrase is an error: nobody is there to be asked.
        context.load_cert_chain(target.cert_file, target.key_file, password="")
    except (OSError, ValueError) as err:  # SSLError is an OSError
        accepted = f"a readable PEM certificate chain, and its key ({err})"
        raise ConfigError(target.setting("tls.cert-file"), str(target.cert_file), accepted) from err
    return context


def _trusting(target: Target) -> ssl.SSLContext:
    if target.ca_file is None:
        if not target.url.startswith("https:") or target.insecure_skip_verify:
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # load no authorities
        return ssl.create_default_context()
    try:
        pem = read_regular(target.ca_file, limit=LARGEST_CA_FILE).decode("ascii", "replace")
        return ssl.create_default_context(cadata=pem)
    except (OSError, ValueError) as err:  # ValueError: an empty file, a NUL in the path
        accepted = f"a readable file of PEM certificates ({err})"
        raise ConfigError(target.setting("tls.ca-file"), str(target.ca_file), accepted) from err


def check_url(target: Target) -> None:
    """Raise ConfigError for a host that no URL can have, such as 0177.0.0.1."""
    try:
        httpx.URL(target.url)
    except httpx.InvalidURL as err:
        why = f"accepted: a URL with a valid host ({clean(str(err), limit=LONGEST_LOCATION)})"
        raise ConfigError(target.setting("url"), mask_address(target.url), why) from err


def transport(context: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
    """Return what sends requests to a target directly, on one connection at a time."""
    return httpx.AsyncHTTPTransport(
        verify=context,
        trust_env=False,  # HTTP_PROXY would apply even to loopback
        limits=httpx.Limits(max_connections=1, keepalive_expiry=None),
    )


async def _read(stream: httpx.AsyncByteStream, on_chunk: Callable[[bytes], None]) -> None:
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > LARGEST_BODY:
            limit = LARGEST_BODY // 2**20
            raise TargetError(FailureReason.MALFORMED, f"answer is larger than {limit} MiB")
        on_chunk(chunk)


def _translate(err: httpx.HTTPError) -> TargetError:
    detail = str(err) or type(err).__name__
    if isinstance(err, httpx.ConnectError):
        return no_connection(err, detail)
    if isinstance(err, httpx.RemoteProtocolError) and NOT_HTTP in detail:
        return TargetError(FailureReason.MALFORMED, f"not valid HTTP ({clean(detail, limit=100)})")
    for kind, reason in REASONS:
        if isinstance(err, kind):
            return TargetError(reason, detail)
    return TargetError(FailureReason.MALFORMED, detail)
