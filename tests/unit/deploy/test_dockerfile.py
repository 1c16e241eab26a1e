# SPDX-License-Identifier: Apache-2.0
"""The image knows the commit it was built from."""

import re
import subprocess
from pathlib import Path
from typing import Final

from ollama_exporter.version import REVISION
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE

COMMIT: Final = "245ba05b245ba05b245ba05b245ba05b245ba05b"
STEP: Final = re.compile(r"^RUN (sed -i .*?)\n(?![ \t])", re.MULTILINE | re.DOTALL)


def test_the_build_writes_its_revision_into_the_program(tmp_path: Path) -> None:
    """Runs the very step of the Dockerfile on a copy of the file that it changes."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copy = tmp_path / "version.py"
    copy.write_bytes((ROOT / "ollama_exporter" / "version.py").read_bytes())
    (step,) = STEP.findall(dockerfile)
    assert "/src/ollama_exporter/version.py" in step
    command = step.replace("/src/ollama_exporter/version.py", str(copy))
    environment = {"REVISION": COMMIT, "PATH": "/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-c", command], env=environment, check=True, timeout=PATIENCE)
    names: dict[str, object] = {}
    exec(copy.read_text(encoding="utf-8"), names)  # noqa: S102 - our own module
    assert names["REVISION"] == COMMIT
    assert REVISION == "unknown"  # in a checkout


def test_the_build_is_given_a_revision_in_the_stage_that_writes_it() -> None:
    build = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")[1]
    assert re.search(r"^ARG REVISION=unknown$", build, re.MULTILINE)
