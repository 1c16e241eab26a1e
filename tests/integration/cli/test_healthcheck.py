# SPDX-License-Identifier: Apache-2.0
"""`healthcheck`: one word, and the exit code that an orchestrator reads."""

import ssl
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from ollama_exporter.cli.main import cli
from tests.support.answering import answering
from tests.support.faultserver import closed_port


def healthcheck(address: str, *flags: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["healthcheck", f"--web.listen-address={address}", *flags])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(200, 0, "healthy\n"), (503, 1, "unhealthy: HTTP status 503\n")],
)
def test_an_exporter_with_tls_whose_certificate_names_it_for_others(
    status: int, code: int, said: str, tmp_path: Path
) -> None:
    pem, web = tmp_path / "server.pem", tmp_path / "web.yml"
    issued = trustme.CA().issue_cert("exporter.example")
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    web.write_text(f"tls_server_config: {{cert_file: {pem}, key_file: {pem}}}", "utf-8")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    with answering(b"OK\n", status, tls=context) as (url, _):
        address = url.removeprefix("https://")
        assert healthcheck(address, f"--web.config.file={web}") == (code, said)


def test_where_nothing_listens_it_says_why() -> None:
    code, said = healthcheck(f"127.0.0.1:{closed_port()}")
    assert (code, said.startswith("unhealthy: "), "refused" in said) == (1, True, True)
