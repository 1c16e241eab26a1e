# SPDX-License-Identifier: Apache-2.0
"""The settings of the one server that is watched unless `targets` names several."""

from dataclasses import dataclass
from pathlib import Path

from ollama_exporter.config import parsers
from ollama_exporter.config.setting import setting
from ollama_exporter.config.target import (
    DEFAULT_PORT,
    DEFAULT_TIMEOUT,
    HeaderField,
    Target,
    checked_basic_auth,
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the server is, and how it lets us in. Durations in seconds."""

    ollama_url: str = setting(
        "ollama.url",
        parsers.url,
        f"http://127.0.0.1:{DEFAULT_PORT}",
        "Address of Ollama, in any form that OLLAMA_HOST takes. When unset, OLLAMA_HOST is used.",
        metavar="URL",
    )
    ollama_ca_file: Path | None = setting(
        "ollama.ca-file",
        parsers.path,
        None,
        "CA certificates (PEM) to verify an https server.",
        metavar="FILE",
    )
    ollama_token_file: Path | None = setting(
        "ollama.token-file",
        parsers.path,
        None,
        "File with a bearer token for the server. Changes apply without a restart.",
        metavar="FILE",
    )
    ollama_basic_auth_user: str | None = setting(
        "ollama.basic-auth-user",
        parsers.user,
        None,
        "User name for basic authentication at the server.",
        metavar="NAME",
    )
    ollama_basic_auth_password_file: Path | None = setting(
        "ollama.basic-auth-password-file",
        parsers.path,
        None,
        "File with that user's password. Changes apply without a restart.",
        metavar="FILE",
    )
    ollama_headers: tuple[HeaderField, ...] = setting(
        "ollama.header",
        parsers.header_fields,
        (),
        "Header for the server. Other users can see the command line: "
        "for secrets, use --ollama.header-file. Repeatable.",
        metavar="NAME: VALUE",
    )
    ollama_header_files: tuple[HeaderField, ...] = setting(
        "ollama.header-file",
        parsers.header_files,
        (),
        "Header whose value is in a file. Changes apply without a restart. Repeatable.",
        metavar="NAME: FILE",
    )
    ollama_tls_cert_file: Path | None = setting(
        "ollama.tls-cert-file",
        parsers.path,
        None,
        "Client certificate chain (PEM) for an https server that requires one.",
        metavar="FILE",
    )
    ollama_tls_key_file: Path | None = setting(
        "ollama.tls-key-file",
        parsers.path,
        None,
        "Private key (PEM) of the client certificate, unless it is in the same file.",
        metavar="FILE",
    )
    ollama_tls_server_name: str | None = setting(
        "ollama.tls-server-name",
        parsers.text,
        None,
        "Name in the server's certificate, if it differs from the host of the URL.",
        metavar="NAME",
    )
    ollama_tls_insecure_skip_verify: bool = setting(
        "ollama.tls-insecure-skip-verify",
        parsers.flag,
        False,  # noqa: FBT003 - the row's default
        "Do not verify the server's certificate. Anyone in between can then read the token.",
    )
    ollama_timeout: float = setting(
        "ollama.timeout",
        parsers.duration,
        DEFAULT_TIMEOUT,
        "Timeout of a poll.",
        metavar="DURATION",
    )

    @property
    def target(self) -> Target:
        """The server to watch. Raises ConfigError for half of a basic authentication."""
        user, password_file = self.ollama_basic_auth_user, self.ollama_basic_auth_password_file
        basic_auth = None
        if user is not None or password_file is not None:
            basic_auth = checked_basic_auth(user, password_file)
        return Target(
            "ollama",
            self.ollama_url,
            self.ollama_ca_file,
            self.ollama_token_file,
            basic_auth=basic_auth,
            headers=(*self.ollama_headers, *self.ollama_header_files),
            cert_file=self.ollama_tls_cert_file,
            key_file=self.ollama_tls_key_file,
            server_name=self.ollama_tls_server_name,
            insecure_skip_verify=self.ollama_tls_insecure_skip_verify,
        )
