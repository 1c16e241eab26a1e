# SPDX-License-Identifier: Apache-2.0
"""What a release would publish: built, complete, installed into an environment of its own."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Final

import pytest
from readme_renderer.markdown import render as rendered

from ollama_exporter.version import __version__
from tests.support.paths import ROOT

SLOW: Final = 600  # seconds that building or installing may take on a busy machine
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=SLOW, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with wheel and source package: $DIST, which `make release` has filled."""
    if "DIST" in os.environ:
        return ROOT / os.environ["DIST"]
    return build(tmp_path_factory.mktemp("dist"))


def build(folder: Path) -> Path:
    """Build with the commit's time, as deploy/release/build does."""
    moment = run("git", "log", "-1", "--format=%ct").strip()
    run(
        *("env", f"SOURCE_DATE_EPOCH={moment}"),
        *(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)),
    )
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def source(built: Path) -> Path:
    (file,) = built.glob("*.tar.gz")
    return file


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_packages_can_be_published(wheel: Path, source: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(source))


def test_the_same_commit_gives_the_same_bytes(wheel: Path, source: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    for file in (wheel, source):
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_page_on_pypi_is_complete_and_no_link_of_it_is_relative(wheel: Path) -> None:
    metadata = metadata_of(wheel)
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Author-email"]
    urls = {line.partition(", ")[0] for line in metadata.get_all("Project-URL") or []}
    assert urls == set(PROJECT["urls"])
    page = rendered(str(metadata.get_payload()))
    assert page is not None, "PyPI would show the source"
    places = set(re.findall(r' id="([^"]+)"', page))
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(links) > 30
    assert [
        link
        for link in links
        if not (link.startswith(("https://", "http://localhost:")) or link[1:] in places)
    ] == []


def test_the_wheel_has_what_it_needs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    metadata = metadata_of(wheel)
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"ollama_exporter", f"ollama_exporter-{__version__}.dist-info"}
    for needed in (
        "py.typed",
        "shipped/grafana/ollama-overview.json",
        "shipped/runbooks/OllamaDown.md",
    ):
        assert f"ollama_exporter/{needed}" in names
    assert not [name for name in names if "test" in name and "shipped/rules" not in name]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == PROJECT["requires-python"]


def test_the_source_has_what_the_tests_need(source: Path) -> None:
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in (
        "Makefile",
        "tests/conftest.py",
        "docs/index.md",
        ".github/workflows/ci.yml",
        "bench/README.md",
        "Dockerfile",
    ):
        assert needed in names


def test_it_is_installed_and_used_outside_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", str(wheel))
    program = str(tmp_path / "env" / "bin" / "ollama-exporter")
    assert __version__ in run(program, "--version", cwd=tmp_path)
    run(program, "check-config", cwd=tmp_path)
    run(program, "rules", str(tmp_path / "rules"), cwd=tmp_path)
    run(program, "dashboards", str(tmp_path / "dashboards"), cwd=tmp_path)
    assert len(list((tmp_path / "rules").glob("*.yaml"))) >= 5
    licences = run(python, "-c", LICENCES, cwd=tmp_path)
    foreign = {
        name: text for name, text in json.loads(licences).items() if not ALLOWED.search(text)
    }
    assert foreign == {}


ALLOWED: Final = re.compile(r"MIT|BSD|Apache|PSF|Python Software Foundation|ISC|MPL", re.IGNORECASE)
LICENCES: Final = """
import json
from importlib.metadata import distributions
print(json.dumps({
    each.name: " ".join([
        each.metadata.get("License-Expression") or "",
        (each.metadata.get("License") or "")[:80],
        *[c for c in each.metadata.get_all("Classifier") or [] if c.startswith("License")],
    ])
    for each in distributions()
}))
"""


def test_a_bill_of_materials_names_every_dependency(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    run(sys.executable, "-m", "cyclonedx_py", "environment", "--output-file", str(file))
    found = json.loads(file.read_text("utf-8"))
    assert found["bomFormat"] == "CycloneDX"
    names = {re.sub(r"[-_.]+", "-", each["name"]).lower() for each in found["components"]}
    needed = {
        re.sub(r"[-_.]+", "-", re.split(r"[ ;<>=~!\[]", line)[0]).lower()
        for line in PROJECT["dependencies"]
        if "sys_platform" not in line
    }
    assert needed <= names
