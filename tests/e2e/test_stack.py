# SPDX-License-Identifier: Apache-2.0
"""`make stack` as a process, from its first line to Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import httpx

from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.programs import program

URL: Final = re.compile(r"^ +(\S.*?) {2,}(http://127\.0\.0\.1:\d+)(/\S*)?", re.MULTILINE)


def test_it_says_which_url_shows_what_and_ends_without_a_trace(tmp_path: Path) -> None:
    for name in ("prometheus", "alertmanager"):
        program(name)
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.stack", "--workload", "office"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    ) as process:
        try:
            text = _read_until(process, "Ctrl-C")
            found = URL.findall(text)
            urls = {what: base for what, base, _ in found}
            assert len(urls) == 7
            with httpx.Client(trust_env=False, timeout=PATIENCE, follow_redirects=True) as http:
                assert http.get(f"{urls['simulated Ollama']}/api/ps").json() == {"models": []}
                assert "ollama_up 1" in http.get(f"{urls['exporter']}/metrics").text
                assert http.get(f"{urls['proxy']}/api/version").status_code == 200
                rules = http.get(f"{urls['Prometheus']}/api/v1/rules").json()
                assert "ollama_residency" in {g["name"] for g in rules["data"]["groups"]}
                assert http.get(f"{urls['Alertmanager']}/api/v2/alerts").json() == []
                for what, base, path in found:  # what is named is there
                    assert what == "proxy" or http.get(f"{base}{path}").status_code == 200, what
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    assert out.endswith("No alert fired.\nShutting down\n")
    assert list(tmp_path.iterdir()) == []


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(read)


def test_a_missing_program_is_reported_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.stack"],
        env={"PATH": "/nowhere"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "Error: prometheus, alertmanager not found; `make stack` gets them on Debian\n"
    )


def test_make_installs_what_the_stack_needs_and_nothing_for_tests() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "stack"],  # noqa: S607 - whichever make there is
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout
    assert ".ci/setup run " in shown
    assert "setup develop" not in shown
    assert ".ci/get-prometheus" in shown
    assert ".ci/get-alertmanager" in shown
