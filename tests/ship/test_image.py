# SPDX-License-Identifier: Apache-2.0
"""The image of the Dockerfile, built and run: hardened, beside a simulated server in another
one."""

from pathlib import Path
from typing import Final

import pytest
import yaml

import ollama_exporter
from tests.support.containers import Images, build
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.scraping import fetch, scrape_until

BASE: Final = "localhost/python:3.13-slim"
LARGEST: Final = 60 << 20  # bytes that the image adds to its base
PULLED: Final = 120_000_000  # bytes of the whole, compressed as a registry has it


@pytest.fixture(scope="session")
def images() -> Images:
    return build()


def test_it_says_what_it_is(images: Images) -> None:
    config = images.config()
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["ollama-exporter"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == ollama_exporter.__version__
    assert labels["org.opencontainers.image.revision"] == "0123456789abcdef"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Healthcheck"]["Test"] == ["CMD", "ollama-exporter", "healthcheck"]


def test_it_is_small(images: Images, tmp_path: Path) -> None:
    assert images.size(images.name) - images.size(BASE) < LARGEST
    assert images.pulled(tmp_path / "pulled") < PULLED


def test_it_watches_a_server_in_another_container(images: Images) -> None:
    """Read-only, without a capability, as uid 65532, in the server's PID namespace.

    So says deploy/compose/sidecar.yaml.
    """
    served, scraped = free_port(), free_port()
    ollama = ("simulate", "--processes", f"--listen=127.0.0.1:{served}")
    sidecar = yaml.safe_load((ROOT / "deploy/compose/sidecar.yaml").read_text("utf-8"))
    namespace = sidecar["services"]["exporter"]["pid"].replace("service:", "container:ship-")
    beside = (f"--pid={namespace}", f"--env=OLLAMA_HOST=127.0.0.1:{served}")
    address = f"--web.listen-address=127.0.0.1:{scraped}"
    with (
        images.running("ship-ollama", *ollama),
        images.running("ship-exporter", address, options=beside),
    ):
        body = b'{"model": "mistral", "prompt": "hi", "stream": false}'
        assert '"done":true' in fetch(f"http://127.0.0.1:{served}/api/generate", body)
        text = scrape_until(scraped, 'ollama_model_runner_up{model="mistral:latest"} 1.0')
        assert "ollama_up 1.0" in text
        assert 'revision="0123456789abcdef"' in text
        inside = images.podman("exec", "ship-exporter", "ollama-exporter", "healthcheck", address)
        assert (inside.returncode, inside.stdout.strip()) == (0, "healthy")
        user = images.podman("exec", "ship-exporter", "id", "-u")
        assert user.stdout.strip() == "65532"
        written = images.podman("exec", "ship-exporter", "touch", "/opt/x")
        assert "Read-only" in written.stderr
        assert "ollama" not in images.podman("diff", "ship-exporter").stdout
        images.podman("kill", "--signal=TERM", "ship-exporter")
        assert images.podman("wait", "ship-exporter").stdout.strip() == "0"
