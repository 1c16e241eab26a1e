# SPDX-License-Identifier: Apache-2.0
"""Makes the TLS context of our own port."""

import os
import ssl
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ollama_exporter.errors import ConfigError
from ollama_exporter.files import MAX_PEM, read_regular, why_unusable
from ollama_exporter.web.locks.certificate_expiry import not_after
from ollama_exporter.web.locks.web_config import (
    CIPHERS,
    CURVES,
    HIDDEN,
    SETTING,
    ClientAuth,
    ServerTls,
)

_VERIFY: Final[Mapping[ClientAuth, ssl.VerifyMode]] = {
    ClientAuth.NONE: ssl.CERT_NONE,
    ClientAuth.VERIFY_IF_GIVEN: ssl.CERT_OPTIONAL,
    ClientAuth.REQUIRE_AND_VERIFY: ssl.CERT_REQUIRED,
}
_PREFIX: Final = f"{SETTING}.tls_server_config"


class TlsMaterial:
    """The certificate, the key and the client CA of a configuration, as bytes."""

    def __init__(self, tls: ServerTls) -> None:
        """Read the files. Raises ConfigError."""
        self.tls = tls
        self.cert = _read("cert_file", tls.cert_file, tls.cert)
        self.key = _read("key_file", tls.key_file, tls.key)
        self.client_ca = _read("client_ca_file", tls.client_ca_file, tls.client_ca)

    def __eq__(self, other: object) -> bool:
        mine = (self.tls, self.cert, self.key, self.client_ca)
        return isinstance(other, TlsMaterial) and mine == (
            other.tls,
            other.cert,
            other.key,
            other.client_ca,
        )

    __hash__ = None  # type: ignore[assignment]  # compared, never a key

    def expires(self) -> float | None:
        """Return when the certificate expires, in Unix seconds; None if it cannot be read."""
        return not_after(self.cert)

    def context(self) -> ssl.SSLContext:
        """Return a context for a server. Raises ConfigError."""
        tls = self.tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the operator asked for TLS 1.0
            context.minimum_version, context.maximum_version = tls.min_version, tls.max_version
        context.set_alpn_protocols(["http/1.1"])
        if tls.prefer_server_cipher_suites:
            context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
        else:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        if older := [name for suite in tls.cipher_suites if (name := CIPHERS[suite])]:
            context.set_ciphers(":".join(older))
        if len(tls.curve_preferences) == 1:  # all of them: OpenSSL's own list has them
            context.set_ecdh_curve(CURVES[tls.curve_preferences[0]])
        self._load_chain(context)
        self._load_client_ca(context)
        context.verify_mode = _VERIFY[tls.client_auth_type]
        return context

    def _load_chain(self, context: ssl.SSLContext) -> None:
        tls = self.tls
        try:
            with (
                _as_file(tls.cert_file, self.cert) as cert,
                _as_file(tls.key_file, self.key) as key,
            ):
                # A key with a passphrase is an error: nobody is there to be asked.
                context.load_cert_chain(cert, key, password="")
        except (OSError, ValueError) as err:  # SSLError is an OSError
            accepted = (
                f"a certificate chain in PEM with the key that belongs to it ({why_unusable(err)})"
            )
            shown = HIDDEN if tls.cert_file is None else str(tls.cert_file)
            raise ConfigError(f"{_PREFIX}.cert_file", shown, accepted) from err

    def _load_client_ca(self, context: ssl.SSLContext) -> None:
        if self.tls.client_auth_type is ClientAuth.NONE:
            return
        if not self.client_ca:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
            return
        try:
            context.load_verify_locations(cadata=self.client_ca.decode("ascii"))
        except (OSError, ValueError) as err:
            accepted = f"certificates in PEM ({why_unusable(err)})"
            shown = str(self.tls.client_ca_file or HIDDEN)
            raise ConfigError(f"{_PREFIX}.client_ca_file", shown, accepted) from err


def is_allowed(certificate: Mapping[str, object] | None, allowed: Sequence[str]) -> bool:
    """Return whether a client's certificate carries one of these alternative names.

    `certificate`: as `SSLObject.getpeercert` returns it. Names are compared exactly, as
    exporter-toolkit does: DNS names, addresses, e-mail addresses and URIs.
    """
    if not allowed:
        return True
    names = (certificate or {}).get("subjectAltName", ())
    return isinstance(names, tuple) and any(value in allowed for _, value in names)


@contextmanager
def _as_file(file: Path | None, content: bytes) -> Iterator[Path]:
    """Yield the file, or one with this content: Python's TLS reads certificates from files alone.

    In memory where the system can do that. A container's file system may be read-only.
    """
    if file is not None:
        yield file
    elif hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("pem"), "wb") as memory:
            memory.write(content)
            memory.flush()
            yield Path(f"/proc/self/fd/{memory.fileno()}")
    else:
        with tempfile.TemporaryDirectory(prefix="ollama-exporter-") as folder:
            path = Path(folder, "pem")
            path.touch(mode=0o600)
            path.write_bytes(content)
            yield path


def _read(key: str, file: Path | None, text: str) -> bytes:
    if file is None:
        return text.encode()
    try:
        return read_regular(file, limit=MAX_PEM)
    except (OSError, ValueError) as err:
        raise ConfigError(
            f"{_PREFIX}.{key}", str(file), f"a readable file ({why_unusable(err)})"
        ) from err
