# SPDX-License-Identifier: Apache-2.0
"""Tokens and certificates are files: what becomes of them while the proxy runs."""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import trustme

from ollama_exporter.config.target import BasicAuth, HeaderField, Target
from ollama_exporter.errors import ConfigError
from ollama_exporter.protocol.server_credentials import static_fields
from ollama_exporter.shim.proxy.credentials import (
    watched_certificate,
    watched_fields,
    watched_token,
)
from ollama_exporter.shim.proxy.server import Frontend
from ollama_exporter.watched_file import GRACE, WatchedFile
from tests.support.exporting import until
from tests.support.loops import Run
from tests.support.proxying import Clock, Proxied, limits_with, proxied
from tests.support.rawserver import OK, answers, caller, rawserver

BRIEF: Final = limits_with(silence_timeout=0.2, shutdown_timeout=0.3)  # looks come often
SECRET: Final = "s3cret"  # noqa: S105 - of these tests alone


def empty(file: Path) -> None:
    file.write_bytes(b"")


def remove(file: Path) -> None:
    file.unlink()


def two_lines(file: Path) -> None:
    file.write_bytes(b"one\ntwo\n")


def not_ascii(file: Path) -> None:
    file.write_bytes("schlüssel".encode())


def too_large(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(1 << 30)


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


DAMAGE: Final = (empty, remove, two_lines, not_ascii, too_large, fifo, folder, device)


class Tokens:
    """A token's file, and how often it could not be read."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "token"
        self.file.write_text(SECRET + "\n", encoding="ascii")
        self.clock = Clock()
        self.errors: list[str] = []
        watched = watched_token(
            self.file, "proxy.token-file", now=self.clock, on_error=self.errors.append
        )
        assert watched is not None
        self.watched: WatchedFile[str] = watched


async def status(proxy: Proxied, token: str = SECRET) -> int:
    async with caller(proxy.port) as client:
        head = f"GET /a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        return (await client.ask(head.encode())).status


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_token_whose_file_cannot_be_used_loses_its_effect(
    run: Run,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    tokens = Tokens(tmp_path)

    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(
                server.url,
                frontend=Frontend(token=tokens.watched, any_host=True),
                limits=BRIEF,
                clock=tokens.clock,
            ) as proxy,
        ):
            assert await status(proxy) == 200
            damage(tokens.file)
            await until(lambda: len(tokens.errors) > 1)
            assert await status(proxy) == 200  # an editor may be at work
            await proxy.advance(GRACE)
            await until(lambda: tokens.watched.current() is None)
            await proxy.advance(1.0)
            assert [await status(proxy), await status(proxy, "")] == [401, 401]
            if tokens.file.is_dir():
                tokens.file.rmdir()
            else:
                tokens.file.unlink(missing_ok=True)
            tokens.file.write_bytes(b"\xef\xbb\xbfsecond\r\n")  # as Windows writes it
            await until(lambda: tokens.watched.current() == "second")
            await proxy.advance(1.0)
            assert [await status(proxy), await status(proxy, "second")] == [401, 200]

    caplog.set_level(logging.INFO, "ollama_exporter")
    run(check())
    messages = list(dict.fromkeys(record.getMessage() for record in caplog.records))
    assert messages == [
        "Credential file cannot be used",
        "Credential is void: its file cannot be used",
        "Credential is usable again",
    ]
    assert len(caplog.records) < 6  # each once; a file may be seen half written
    assert set(tokens.errors) == {"proxy.token-file"}


@pytest.mark.parametrize("damage", [*DAMAGE])
def test_such_a_file_is_an_error_at_the_start(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    file = tmp_path / "token"
    file.write_text("x", encoding="ascii")
    damage(file)
    with pytest.raises(ConfigError, match=r"proxy\.token-file"):
        watched_token(file, "proxy.token-file", now=Clock(), on_error=print)


def test_a_token_for_the_server_that_cannot_be_used_is_not_sent(run: Run, tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    target = Target("ollama", "http://x:1", None, tokens.file)
    (field,) = watched_fields(target, now=tokens.clock, on_error=tokens.errors.append)

    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(server.url, limits=BRIEF, clock=tokens.clock, token=field) as proxy,
        ):
            assert await status(proxy) == 200
            tokens.file.unlink()
            await until(lambda: tokens.errors)
            await proxy.advance(GRACE)
            await until(lambda: field.current() is None)
            await proxy.advance(1.0)
            assert await status(proxy) == 200
            sent = [request.all(b"authorization") for request in server.requests()]
            assert sent == [[b"Bearer " + SECRET.encode()], []]

    run(check())


# -- certificates ----------------------------------------------------------------------------------


class Certificates:
    """A certificate and its key in files."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.errors: list[str] = []

    def write(self, authority: trustme.CA, *, key_of: trustme.CA | None = None) -> None:
        """Replace them; `key_of`: another key than the certificate's."""
        issued = authority.issue_cert("127.0.0.1")
        other = issued if key_of is None else key_of.issue_cert("127.0.0.1")
        other.private_key_pem.write_to_path(str(self.key))
        chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
        self.cert.write_bytes(chain)

    def watched(self) -> WatchedFile[ssl.SSLContext]:
        """Return them, read."""
        found = watched_certificate(self.cert, self.key, now=Clock(), on_error=self.errors.append)
        assert found is not None
        return found


async def is_trusted(proxy: Proxied, authority: trustme.CA, *, name: str | None = None) -> bool:
    """Return whether the proxy's certificate is of that authority. `name`: None, no SNI."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.check_hostname = False
    try:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", proxy.port, ssl=context, server_hostname=name or ""
        )
    except ssl.SSLCertVerificationError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", None])
def test_a_replaced_certificate_is_used_without_a_restart(
    run: Run, tmp_path: Path, name: str | None
) -> None:
    first, second = trustme.CA(), trustme.CA()
    files = Certificates(tmp_path)
    files.write(first)

    async def check() -> None:
        watched = files.watched()
        async with (
            rawserver(answers(OK)) as server,
            proxied(
                server.url, frontend=Frontend(certificate=watched, any_host=True), limits=BRIEF
            ) as proxy,
        ):
            assert await is_trusted(proxy, first, name=name)
            old = watched.current()
            files.write(second)
            await until(lambda: watched.current() is not old)
            assert await is_trusted(proxy, second, name=name)
            assert not await is_trusted(proxy, first, name=name)

    run(check())


def test_a_damaged_certificate_leaves_the_old_one_in_use(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = trustme.CA(), trustme.CA()
    files = Certificates(tmp_path)
    files.write(first)

    async def check() -> None:
        async with (
            rawserver(answers(OK)) as server,
            proxied(
                server.url,
                frontend=Frontend(certificate=files.watched(), any_host=True),
                limits=BRIEF,
            ) as proxy,
        ):
            damages: list[Callable[[], None]] = [
                lambda: files.write(second, key_of=first),
                files.key.unlink,
                lambda: empty(files.cert),
                lambda: fifo(files.cert),
            ]
            for damage in damages:
                damage()
                files.errors.clear()
                await until(lambda: len(files.errors) > 1)
                assert await is_trusted(proxy, first)

    caplog.set_level(logging.INFO, "ollama_exporter")
    run(check())
    messages = {record.getMessage() for record in caplog.records}
    assert messages == {"Certificate cannot be used, the old one stays"}
    assert len(caplog.records) <= 8  # each once; two files may be seen half written


def test_the_server_gets_the_fields_of_the_configuration_in_place_of_the_clients(
    run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    target = Target(
        "ollama",
        "http://x:1",
        basic_auth=BasicAuth("me", file),
        headers=(HeaderField("X-Secret", file=file), HeaderField("X-Gateway", "7")),
    )

    async def check() -> None:
        clock, errors = Clock(), list[str]()
        fields = watched_fields(target, now=clock, on_error=errors.append)
        async with (
            rawserver(answers(OK)) as server,
            proxied(
                server.url,
                fields=fields,
                static_fields=static_fields(target),
                limits=BRIEF,
                clock=clock,
            ) as proxy,
            caller(proxy.port) as link,
        ):
            sent = b"Host: x\r\nauthorization: Bearer mine\r\nx-secret: mine\r\nX-Id: mine\r\n"
            await link.ask(b"GET /api/ps HTTP/1.1\r\n" + sent + b"\r\n")
            (request,) = server.requests()
            assert request.all(b"x-secret") == [SECRET.encode()]
            assert request.all(b"x-gateway") == [b"7"]
            assert request.all(b"x-id") == [b"mine"]
            (authorization,) = request.all(b"authorization")
            assert authorization.startswith(b"Basic ")

    run(check())
