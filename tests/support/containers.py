# SPDX-License-Identifier: Apache-2.0
"""Containers without a daemon: podman on the images that `deploy/image/build` makes."""

import json
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.programs import demand_root

TOOLS: Final = ("buildah", "podman", "runc", "mmdebstrap")
BUILDING: Final = 500.0  # seconds for base and image on two busy cores; catches hangs
CACHE: Final = ROOT / ".venv" / "image"


@dataclass(frozen=True, slots=True)
class Images:
    """The images in one folder."""

    folder: Path
    name: str

    def podman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run podman."""
        command = ["podman", "--root", str(self.folder / "store"), "--storage-driver", "vfs"]
        command += ["--runroot", str(self.folder / "run"), "--cgroup-manager", "cgroupfs"]
        return subprocess.run(
            [*command, "--runtime", "runc", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def config(self) -> dict[str, Any]:
        """Return what the image says of itself; podman's own inspect leaves the healthcheck out."""
        command = ["buildah", "--root", str(self.folder / "store"), "--storage-driver", "vfs"]
        command += ["--runroot", str(self.folder / "run"), "inspect", "--type", "image", self.name]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
        return dict(json.loads(done.stdout)["Docker"]["config"])

    def size(self, name: str) -> int:
        """Return the bytes of an image, with its base."""
        (found,) = json.loads(self.podman("image", "inspect", name).stdout)
        return int(found["Size"])

    def pulled(self, folder: Path) -> int:
        """Return the bytes that a registry would send, compressed. It is written to a folder."""
        command = ["buildah", "--root", str(self.folder / "store"), "--storage-driver", "vfs"]
        command += ["--runroot", str(self.folder / "run"), "push", "--quiet", self.name]
        subprocess.run(
            [*command, f"oci:{folder}:x"], capture_output=True, timeout=BUILDING, check=True
        )
        return sum(file.stat().st_size for file in (folder / "blobs" / "sha256").iterdir())

    @contextmanager
    def running(self, name: str, *command: str, options: tuple[str, ...] = ()) -> Iterator[None]:
        """Run a container as hardened as the examples say: no capability, nothing to write to."""
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        done = self.podman(
            *("run", "--detach", "--name", name, "--network=host", "--read-only"),
            *("--cap-drop=all", "--no-healthcheck", "--security-opt=no-new-privileges"),
            *(f"--ulimit=nofile={most}:{most}", "--ulimit=nproc=1000:1000"),
            *options,
            self.name,
            *command,
        )
        if done.returncode != 0 and "ermitted" in done.stderr:
            pytest.skip(f"this kernel refuses containers: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        try:
            yield
        finally:
            self.podman("rm", "--force", "--time=0", name)


def build() -> Images:
    """Build the image; skip where that cannot be done, fail where CI should have the tools."""
    demand_root(*TOOLS)
    done = subprocess.run(
        [str(ROOT / "deploy" / "image" / "build"), str(CACHE), "0123456789abcdef"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BUILDING,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Images(CACHE, done.stdout.splitlines()[-1])
