# SPDX-License-Identifier: Apache-2.0
"""A conformance run that cannot start says so once, before the first test."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from tests.support.paths import ROOT


class SelfBuilt(BaseHTTPRequestHandler):
    """A server that was built without a version."""

    def do_GET(self) -> None:
        """Answer /api/version."""
        body = b'{"version":"0.0.0"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def self_built() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), SelfBuilt) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def conformance(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "tests/conformance", *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_a_self_built_server_needs_its_generation_and_that_is_said_once() -> None:
    with self_built() as url:
        run = conformance("--server", url, "--model", "a", "--model2", "b")
    assert run.returncode != 0
    assert (run.stdout + run.stderr).count("--generation=new") == 1


def test_a_server_that_does_not_answer_is_said_once() -> None:
    run = conformance("--server", "http://127.0.0.1:9", "--model", "a", "--model2", "b")
    assert run.returncode != 0
    assert (run.stdout + run.stderr).count("no Ollama server answers at http://127.0.0.1:9") == 1
