# SPDX-License-Identifier: Apache-2.0
"""Root file systems of Debian to install packages into, made by mmdebstrap."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.paths import ROOT

TOOLS: Final = ("mmdebstrap", "nfpm", "lintian", "dpkg-deb")
SLOW: Final = 500.0  # seconds that one step may take on a busy machine; catches hangs
CACHE: Final = ROOT / ".venv" / "packages"
# What the tools themselves write: databases, logs, backups of /etc/passwd, the linker's cache.
NOT_OURS: Final = (
    "var/lib/dpkg/",
    "var/lib/rpm/",
    "root/.rpmdb/",
    "var/log/",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "etc/.pwd.lock",
    "var/cache/ldconfig/",
)


def run(*command: str, cwd: Path = ROOT) -> str:
    """Run a command that must succeed; return what it prints."""
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=SLOW,
        check=False,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True, slots=True)
class PackageRoot:
    """A root file system."""

    folder: Path

    def run(self, *command: str) -> str:
        """Run a program in it as root."""
        return run("chroot", str(self.folder), *command)

    @contextmanager
    def service(self, arguments: str, settings: dict[str, str]) -> Iterator[None]:
        """Run the unit's ExecStart as its user without capabilities, and end it by SIGTERM."""
        unit = (self.folder / "usr/lib/systemd/system/ollama-exporter.service").read_text("utf-8")
        (start,) = [
            line.partition("=")[2] for line in unit.splitlines() if line.startswith("ExecStart=")
        ]
        process = subprocess.Popen(
            [
                *("chroot", str(self.folder), "setpriv", "--reuid=ollama-exporter"),
                *("--regid=ollama-exporter", "--clear-groups", "--no-new-privs"),
                *("--bounding-set=-all", "--inh-caps=-all", "--"),
                *start.split(),
                *arguments.split(),
            ],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
            process.terminate()
            output, _ = process.communicate(timeout=SLOW)
            assert process.returncode == 0, output.decode()
        finally:
            process.kill()
            process.wait()

    def files(self) -> dict[str, str]:
        """Return every file and folder with its content's beginning, the tools' own left out."""
        found = {}
        for folder, names, files in os.walk(self.folder):
            for name in (*names, *files):
                path = Path(folder, name)
                relative = str(path.relative_to(self.folder))
                if f"{relative}/".startswith(NOT_OURS) or relative.startswith(NOT_OURS):
                    continue
                plain = path.is_file() and not path.is_symlink() and relative.startswith("etc/")
                found[relative] = path.read_text("utf-8", "replace") if plain else ""
        return found

    def left(self, before: dict[str, str]) -> list[str]:
        """Return what is there and was not, or is not as it was."""
        now = self.files()
        return sorted(
            name for name in {*before, *now} if before.get(name, "-") != now.get(name, "-")
        )


def package_root(suite: str, folder: Path) -> PackageRoot:
    """Unpack a minimal Debian with Python and rpm; it is made once and kept."""
    CACHE.mkdir(parents=True, exist_ok=True)
    archive = CACHE / f"{suite}.tar"
    if not archive.exists():
        made = archive.with_suffix(".new.tar")
        run("mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,rpm", suite, str(made))
        made.rename(archive)
    folder.mkdir()
    run("tar", "--extract", "--file", str(archive), "--directory", str(folder))
    return PackageRoot(folder)
