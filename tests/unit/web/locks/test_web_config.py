# SPDX-License-Identifier: Apache-2.0
"""The file of exporter-toolkit: what it accepts and refuses, and what Python cannot do."""

import ssl
from pathlib import Path
from typing import Final

import pytest

from ollama_exporter.errors import ConfigError
from ollama_exporter.web.locks.web_config import (
    CIPHERS,
    CURVES,
    ClientAuth,
    RateLimit,
    WebConfig,
    read_web_config,
)

HASH: Final = "$2y$10$" + "a" * 53
PAIR: Final = "cert_file: server.crt, key_file: server.key"
GIVEN: Final = f"{PAIR}, client_auth_type: VerifyClientCertIfGiven"
OLDER: Final = "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]"  # none that HTTP/2 needs
NO_HTTP2: Final = "http_server_config: {http2: false}"


def read(tmp_path: Path, text: str) -> WebConfig:
    file = tmp_path / "web.yml"
    file.write_text(text, "utf-8")
    return read_web_config(file)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing but a comment",
        f"tls_server_config: {{{GIVEN}}}",
        f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert}}",
        f"tls_server_config: {{{GIVEN}, cipher_suites: [{', '.join(CIPHERS)}]}}",
        f"tls_server_config: {{{GIVEN}, curve_preferences: [CurveP521], min_version: TLS13}}",
        f"tls_server_config: {{{GIVEN}, curve_preferences: [{', '.join(CURVES)}]}}",
        f"tls_server_config: {{{GIVEN}, max_version: TLS12, {OLDER}}}\n{NO_HTTP2}",
        f"basic_auth_users: {{alice: {HASH}}}",
        "basic_auth_users:",
        "tls_server_config: {}",
        f"tls_server_config: {{{PAIR}, client_ca: null, cipher_suites: null}}",
        'http_server_config: {headers: {Content-Security-Policy: ""}}',
        "rate_limit: {interval: 0, burst: 0}",
    ],
)
def test_what_the_toolkit_accepts(text: str, tmp_path: Path) -> None:
    assert isinstance(read(tmp_path, text), WebConfig)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("some\njunk\n", "mapping"),
        ("tls_server_config: {cert_filse: x}", "cert_filse"),
        ('tls_server_config: {cert_file: "", key_file: k}', "cert_file"),
        ('tls_server_config: {cert: "", key_file: k}', "cert_file"),
        ('tls_server_config: {cert_file: c, key_file: ""}', "key_file"),
        ('tls_server_config: {cert_file: c, key: ""}', "key_file"),
        (
            'tls_server_config: {cert_file: "", key_file: "", client_auth_type: x}',
            "client_auth_type",
        ),
        (f"tls_server_config: {{{PAIR}, client_ca_file: /dev/null}}", "client_auth_type"),
        (f"tls_server_config: {{{GIVEN}, client_allowed_sans: [a]}}", "client_allowed_sans needs"),
        (f"tls_server_config: {{{PAIR}, client_ca: [a]}}", "client_ca"),
        (f"tls_server_config: {{{GIVEN}, client_allowed_sans: a}}", "a list of texts"),
        (f"tls_server_config: {{{GIVEN}, cipher_suites: [TLS_NONE]}}", "TLS_NONE"),
        (f"tls_server_config: {{{GIVEN}, curve_preferences: [CurveP257]}}", "CurveP257"),
        (f"tls_server_config: {{{GIVEN}, min_version: TLS111}}", "TLS111"),
        (f"tls_server_config: {{{GIVEN}, min_version: TLS13, max_version: TLS12}}", "least"),
        (f"tls_server_config: {{{GIVEN}, {OLDER}}}", "http2: false"),
        ("basic_auth_users: {john: doe}", "john"),
        (
            f"basic_auth_users: {{{', '.join(f'u{n}: x' for n in range(1001))}}}",
            "at most 1000",
        ),
        ("basic_auth_users: {'jo:hn': doe}", "colon"),
        ("http_server_config: {headers: {Content-Type: foo}}", "Content-Type"),
        ("http_server_config: {headers: {X-Frame-Options: foo}}", "sameorigin"),
        ("http_server_config: {headers: {X-Content-Type-Options: sniff}}", "nosniff"),
        ('http_server_config: {headers: {X-XSS-Protection: "1\\r\\nX: y"}}', "ASCII"),
        ("http_server_config: {http2: 1}", "http2"),
        ("rate_limit: {interval: soon}", "interval"),
        ("rate_limit: {burst: -1}", "burst"),
        ("unknown: 1", "unknown"),
        # What the toolkit accepts and Python's TLS cannot do.
        (f"tls_server_config: {{{PAIR}, client_auth_type: RequireAnyClientCert}}", "verifying"),
        (f"tls_server_config: {{{GIVEN}, curve_preferences: [CurveP256, X25519]}}", "one curve"),
    ],
)
def test_what_is_refused(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s).") as raised:
        read(tmp_path, text)
    assert named in str(raised.value)


@pytest.mark.parametrize(
    "text",
    ["basic_auth_users: {john: s3cr3t}", "tls_server_config: {cert_file: c, key: {x: s3cr3t}}"],
)
def test_no_message_shows_a_secret(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, text)
    assert "s3cr3t" not in str(raised.value)


def test_a_whole_file(tmp_path: Path) -> None:
    text = f"""
tls_server_config:
  cert_file: server.crt
  key_file: /etc/keys/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: [prometheus.example]
  min_version: TLS13
http_server_config:
  headers:
    X-XSS-Protection: 1
    X-Frame-Options: deny
basic_auth_users:
  alice: {HASH}
rate_limit: {{interval: 1s, burst: 5}}
"""
    config = read(tmp_path, text)
    assert config.tls is not None
    assert config.tls.cert_file == tmp_path / "server.crt"
    assert config.tls.key_file == Path("/etc/keys/server.key")
    assert config.tls.client_auth_type is ClientAuth.REQUIRE_AND_VERIFY
    assert config.tls.client_allowed_sans == ("prometheus.example",)
    assert config.tls.min_version is ssl.TLSVersion.TLSv1_3
    assert config.headers == (("X-XSS-Protection", "1"), ("X-Frame-Options", "deny"))
    assert config.users == {"alice": HASH}
    assert config.rate_limit == RateLimit(1.0, 5)
    assert HASH not in repr(config)
