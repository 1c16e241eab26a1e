# SPDX-License-Identifier: Apache-2.0
"""The TLS context of our own port, by file and by text."""

import ssl
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from ollama_exporter.errors import ConfigError
from ollama_exporter.web.locks.server_tls import TlsMaterial
from ollama_exporter.web.locks.web_config import HIDDEN, ClientAuth, ServerTls

AUTHORITY: Final = trustme.CA()
ISSUED: Final = AUTHORITY.issue_cert("localhost")
CERT: Final = "".join(pem.bytes().decode() for pem in ISSUED.cert_chain_pems)
KEY: Final = ISSUED.private_key_pem.bytes().decode()
CA: Final = AUTHORITY.cert_pem.bytes().decode()
TEXTS: Final[dict[str, Any]] = {"cert": CERT, "key": KEY}


def context(**changes: Any) -> ssl.SSLContext:
    return TlsMaterial(ServerTls(**TEXTS | changes)).context()


def shaken(server: ssl.SSLContext) -> ssl.SSLObject:
    """Return the client's side of a handshake with a server that has this context."""
    trusting = ssl.create_default_context()
    AUTHORITY.configure_trust(trusting)
    ways = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(ways[0], ways[1], server_hostname="localhost")
    ours = server.wrap_bio(ways[1], ways[0], server_side=True)
    for side in (client, ours, client, ours):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client


def test_certificate_and_key_may_be_texts_or_files(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text(CERT, "ascii")
    key.write_text(KEY, "ascii")
    for changes in ({}, {"cert_file": cert, "key_file": key}, {"cert_file": cert}):
        assert shaken(context(**changes)).version() == "TLSv1.3"


def test_the_suites_the_curve_and_whose_order_counts_are_as_configured() -> None:
    suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    made = context(
        max_version=ssl.TLSVersion.TLSv1_2,
        cipher_suites=(suite,),
        curve_preferences=("CurveP384",),
        prefer_server_cipher_suites=False,
    )
    assert not made.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert context().options & ssl.OP_CIPHER_SERVER_PREFERENCE
    cipher = shaken(made).cipher()
    assert cipher is not None
    assert cipher[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.mark.parametrize("client_ca", ["", CA])
def test_clients_are_held_against_the_authority_named_or_those_of_the_system(
    client_ca: str,
) -> None:
    made = context(client_auth_type=ClientAuth.REQUIRE_AND_VERIFY, client_ca=client_ca)
    assert made.verify_mode is ssl.CERT_REQUIRED
    ours = [each for each in made.get_ca_certs() if "trustme" in str(each)]
    assert len(ours) == bool(client_ca)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"cert": "junk"},
            f"cert_file: must be a certificate chain in PEM .*, not .{HIDDEN[1:-1]}",
        ),
        ({"key": CERT}, "cert_file: must be a certificate chain in PEM with the key"),
        (
            {"client_auth_type": ClientAuth.VERIFY_IF_GIVEN, "client_ca": "junk"},
            "client_ca_file: must be certificates in PEM",
        ),
        (
            {"client_auth_type": ClientAuth.VERIFY_IF_GIVEN, "client_ca": "ünk"},
            "client_ca_file: must be certificates in PEM",
        ),
        ({"cert_file": Path("/nowhere/cert.pem")}, "cert_file: must be a readable file"),
        ({"key_file": Path("/dev/zero")}, "key_file: must be a readable file"),
    ],
)
def test_what_cannot_be_used_is_named_without_a_secret(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        context(**changes)
    assert "PRIVATE" not in str(raised.value)


def test_material_is_equal_if_its_content_is() -> None:
    one, same = (TlsMaterial(ServerTls(**TEXTS)) for _ in range(2))
    assert one == same
    assert one != TlsMaterial(ServerTls(**TEXTS | {"client_ca": CA}))
    assert one != object()
