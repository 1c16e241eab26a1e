# SPDX-License-Identifier: Apache-2.0
"""The server under test: the simulator in both generations, or the one that is named."""

import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.conformance.talk import Ollama


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--server", help="a real server's URL; its two models get loaded and unloaded")
    group.addoption("--model", help="a small model that generates text")
    group.addoption("--model2", help="another one")
    group.addoption("--generation", choices=["new", "old"], help="if it cannot tell its version")
    group.addoption("--max-loaded", type=int, help="its OLLAMA_MAX_LOADED_MODELS")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked."""

    ollama: Ollama
    model: str
    model2: str
    old: bool  # before 0.30
    real: bool
    max_loaded: int | None
    pid: int | None = None  # of the simulator; None: a real server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subject" in metafunc.fixturenames:
        real = metafunc.config.getoption("--server", default=None)
        kinds = ["real"] if real else ["new", "old"]
        metafunc.parametrize("subject", kinds, indirect=True, scope="session")


def pytest_configure(config: pytest.Config) -> None:
    """Check the options of a real server once. Raises UsageError."""
    if config.getoption("--server", default=None) and not hasattr(config, "workerinput"):
        _real(config).ollama.http.close()


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    kind: str = request.param
    if kind == "real":
        named = _real(request.config)
        yield named
        named.ollama.http.close()
        return
    command = [sys.executable, "-m", "ollama_exporter", "simulate", "--listen", "127.0.0.1:0"]
    command += ["--generation", kind, "--cpu", "--max-loaded", "1", "--load-speed", "40"]
    if platform.system() == "Linux":
        command += ["--processes", "--endpoint-metrics"]
    with subprocess.Popen([*command, "--faults"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found, "the simulator did not say where it listens"
            ollama = Ollama(found[0])
            old = kind == "old"
            yield Subject(
                ollama, "llama3.2", "mistral", old=old, real=False, max_loaded=1, pid=process.pid
            )
            ollama.http.close()
        finally:
            process.terminate()


def _real(config: pytest.Config) -> Subject:
    model, model2 = config.getoption("--model"), config.getoption("--model2")
    if not model or not model2:
        raise pytest.UsageError("--server needs --model and --model2: two small models of it")
    ollama = Ollama(config.getoption("--server"))
    try:
        version = ollama.http.get("/api/version").json()["version"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as err:
        url = config.getoption("--server")
        raise pytest.UsageError(f"--server: no Ollama server answers at {url}: {err}") from err
    generation = config.getoption("--generation")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if generation is None and numbers == (0, 0):
        raise pytest.UsageError(
            f"the server reports version {version!r}, as a self-built one does: "
            "add --generation=new (0.30 and later) or --generation=old"
        )
    old = generation == "old" if generation else numbers < (0, 30)
    loaded = config.getoption("--max-loaded")
    return Subject(ollama, model, model2, old=old, real=True, max_loaded=loaded)


@pytest.fixture
def ollama(subject: Subject) -> Iterator[Ollama]:
    """Return the server with neither model loaded, and leave it so."""
    subject.ollama.clear(subject.model, subject.model2)
    yield subject.ollama
    subject.ollama.clear(subject.model, subject.model2)


@pytest.fixture
def model(subject: Subject) -> str:
    return subject.model


@pytest.fixture(autouse=True)
def _no_faults_on_real_servers(request: pytest.FixtureRequest) -> None:
    named = request.config.getoption("--server", default=None)
    if request.node.get_closest_marker("fault") and named:
        pytest.skip("needs a fault that only the simulator makes on demand")
