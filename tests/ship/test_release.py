# SPDX-License-Identifier: Apache-2.0
"""What a release would publish: built, complete, installed into an environment of its own."""

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Final

import pytest
import yaml

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
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT))
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (file,) = built.glob("*.whl")
    return file


def test_the_version_is_the_same_everywhere() -> None:
    chart = yaml.safe_load((ROOT / "deploy/helm/ollama-exporter/Chart.yaml").read_text("utf-8"))
    image = re.search(r"^ARG VERSION=(\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert image is not None
    assert {__version__, PROJECT["version"], str(chart["appVersion"]), image[1]} == {__version__}


def test_the_packages_can_be_published(built: Path) -> None:
    files = [str(file) for file in built.iterdir()]
    assert len(files) == 2
    run(sys.executable, "-m", "twine", "check", "--strict", *files)


def test_the_wheel_has_what_it_needs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(
            archive.read(next(x for x in names if x.endswith("METADATA"))).decode()
        )
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


def test_the_source_has_what_the_tests_need(built: Path) -> None:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
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
